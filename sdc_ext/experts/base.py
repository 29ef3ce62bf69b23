"""What trajectory matching needs of experts, wherever they are kept."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor


class Experts(Protocol):
    """Trajectories to draw from.

    Attributes:
        epochs: of training; a trajectory has one entry more.
        description: of what they are, for a person.
        identity: what tells them from others, as JSON has it.
    """

    epochs: int

    @property
    def description(self) -> str: ...

    @property
    def identity(self) -> dict[str, Any]: ...

    def __len__(self) -> int: ...

    def parameters(self, expert: int, epoch: int) -> Tensor:
        """One entry (P,); epoch 0 is the initial parameters, -1 the last."""
        ...

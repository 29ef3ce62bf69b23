"""Defines what trajectory matching needs from experts, whatever files they are stored in."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor


class Experts(Protocol):
    """Expert trajectories; ``len`` is their number.

    Attributes:
        epochs: The number of epochs of each trajectory, which has one entry more.
    """

    epochs: int

    @property
    def description(self) -> str:
        """One line for users: number, epochs, training and folder of the experts."""
        ...

    @property
    def identity(self) -> dict[str, Any]:
        """JSON values that differ between these experts and others."""
        ...

    def __len__(self) -> int: ...

    def parameters(self, expert: int, epoch: int) -> Tensor:
        """Returns one entry (P,) of a trajectory; epoch 0 is the first, -1 the last."""
        ...

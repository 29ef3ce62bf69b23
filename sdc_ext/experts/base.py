"""Defines what trajectory matching needs from experts, whatever files they are stored in."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from sdc_ext._reading import is_plain
from sdc_ext.errors import InputError


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


def check_parameters(row: Tensor, count: int, name: str) -> Tensor:
    """Returns one entry of a trajectory that was read from a file, in float32.

    Args:
        row: What should be parameters (P,).
        count: The number of parameters P of the network.
        name: What messages call the entry.

    Raises:
        InputError: If it is something else, not finite, or too large to compute with.
    """
    if not is_plain(row) or not row.is_floating_point():
        problem = f"parameters are of the type {row.dtype}"
    elif row.shape != (count,):
        problem = f"parameters have the shape {tuple(row.shape)}, not ({count},)"
    elif not bool(row.float().norm().isfinite()):
        problem = "parameters are not finite, or too large to compute with"
    else:
        return row.float()
    raise InputError(f"{name} is damaged ({problem}): delete it and train it again")

"""Experts of several networks, for sets that are distilled for a pool of networks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sdc_ext.errors import InputError
from sdc_ext.experts.base import Experts
from sdc_ext.experts.store import ExpertInfo, open_experts


class ExpertPool:
    """The experts of all networks of a pool, one network after the other.

    Args:
        parts: The experts of each network, in the order of the pool.

    Attributes:
        parts: The same.
        epochs: The number of epochs that all trajectories have.
    """

    def __init__(self, parts: Sequence[Experts]) -> None:
        self.parts = tuple(parts)
        self.epochs = min(part.epochs for part in parts)

    @property
    def description(self) -> str:
        """See [`Experts`][sdc_ext.experts.Experts]."""
        return "\n".join(part.description for part in self.parts)

    @property
    def identity(self) -> dict[str, Any]:
        """See [`Experts`][sdc_ext.experts.Experts]."""
        return {"pool": [part.identity for part in self.parts]}

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    def parameters(self, expert: int, epoch: int) -> Tensor:
        """See [`Experts`][sdc_ext.experts.Experts]."""
        for part in self.parts:
            if expert < len(part):
                return part.parameters(expert, epoch)
            expert -= len(part)
        raise IndexError(f"there are {len(self)} experts")


def find_experts(folder: str | Path, wanted: ExpertInfo, model: nn.Module) -> Experts:
    """Opens the experts of one network among those that the subfolders of a folder hold.

    Args:
        folder: The folder, with one subfolder per network; others may be beside them.
        wanted: The experts that the run needs; any recipe and seed are accepted.
        model: The network; see [`open_experts`][sdc_ext.experts.open_experts].

    Raises:
        InputError: If no subfolder holds experts that fit, or several do.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}: name one with experts as `experts`")
    found, problems = _fitting(folder, wanted, model)
    if len(found) == 1:
        return found[0]
    what = f"a pool needs exactly one subfolder of {folder} with experts for {wanted.network}"
    if found:
        folders = " and ".join(experts.description for experts in found)
        raise InputError(f"{what}, got several ({folders}): move all but one of them elsewhere")
    reasons = f" ({'; '.join(problems)})" if problems else ""
    raise InputError(f"{what}, got none{reasons}: train them with sdc-ext experts")


def _fitting(
    folder: Path, wanted: ExpertInfo, model: nn.Module
) -> tuple[Sequence[Experts], Sequence[str]]:
    """Returns the experts in the subfolders that fit, and why the others do not."""
    found, problems = [], []
    for one in sorted(path for path in folder.iterdir() if path.is_dir()):
        try:
            found.append(open_experts(one, wanted, model))
        except InputError as error:
            problems.append(str(error).partition(":")[0])
    return found, problems

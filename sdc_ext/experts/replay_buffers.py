"""Reads expert trajectories from the original repositories' files ``replay_buffer_*.pt``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sdc_ext._reading import load_plain
from sdc_ext._words import number_of
from sdc_ext.errors import InputError
from sdc_ext.experts.base import check_parameters

_BUFFER = re.compile(r"replay_buffer_(\d+)\.pt")


# The number of trajectories per file, as MTT's script writes them.
BUFFER_LENGTH = 10


def check_no_buffers(folder: Path) -> None:
    """Raises InputError if a folder already holds ``replay_buffer_*.pt``."""
    if holds_buffers(folder):
        raise InputError(f"{folder} already holds replay_buffer_*.pt: export to another folder")


class ReplayBuffers:
    """Experts in ``replay_buffer_*.pt``, mapped rather than loaded; nothing in them is executed.

    The files do not say what the experts were trained on; only the shapes of their parameters
    can be checked.

    Args:
        folder: The folder with the files.
        shapes: The shapes of the network's parameters, in order.

    Raises:
        InputError: If a file is damaged or holds experts of another network, if the trajectories
            differ in length, or if all epochs of an expert are the same.
    """

    def __init__(self, folder: Path, shapes: Sequence[torch.Size]) -> None:
        self._trajectories: list[list[list[Tensor]]] = []
        paths = [p for p in folder.iterdir() if _BUFFER.fullmatch(p.name)]
        for path in sorted(paths, key=lambda p: int(p.stem.rpartition("_")[2])):
            self._trajectories += _load_buffer(path, list(shapes))
        lengths = {len(trajectory) for trajectory in self._trajectories}
        if len(lengths) != 1:
            found = ", ".join(map(str, sorted(lengths))) or "none"
            raise InputError(
                f"the trajectories in {folder} must have the same length, found {found}: keep "
                "those of one training run"
            )
        self.epochs = lengths.pop() - 1
        if self.epochs < 1:
            raise InputError(
                f"the trajectories in {folder} have no entry after the first one: train experts "
                "with sdc-ext experts"
            )
        self._folder = folder
        if torch.equal(self.parameters(0, 0), self.parameters(0, -1)):
            raise InputError(
                f"the experts in {folder} are the same at all epochs, since the original scripts "
                "write such files on machines without a GPU: train experts with sdc-ext experts"
            )

    @property
    def description(self) -> str:
        """See [`Experts`][sdc_ext.experts.Experts]."""
        experts, epochs = number_of(len(self), "expert"), number_of(self.epochs, "epoch")
        return (
            f"{experts} of {epochs} from replay_buffer_*.pt in {self._folder}, which do not say "
            "their data set and preprocessing"
        )

    @property
    def identity(self) -> dict[str, Any]:
        """See [`Experts`][sdc_ext.experts.Experts]."""
        last = self.parameters(len(self) - 1, -1)
        return {"count": len(self), "epochs": self.epochs, "norm": float(last.norm())}

    def __len__(self) -> int:
        return len(self._trajectories)

    def parameters(self, expert: int, epoch: int) -> Tensor:
        """See [`Experts`][sdc_ext.experts.Experts]."""
        tensors = self._trajectories[expert][epoch % (self.epochs + 1)]
        row = torch.cat([t.detach().flatten() for t in tensors])
        return check_parameters(row, len(row), f"replay_buffer_*.pt in {self._folder}")


def holds_buffers(folder: Path) -> bool:
    """Returns whether a folder holds ``replay_buffer_*.pt``."""
    return folder.is_dir() and any(_BUFFER.fullmatch(p.name) for p in folder.iterdir())


def _load_buffer(path: Path, shapes: list[torch.Size]) -> list[list[list[Tensor]]]:
    try:
        content = load_plain(path, mapped=True, whole=False)
        found = [[t.shape for t in entry] for trajectory in content for entry in trajectory]
    except InputError:
        raise
    except Exception as error:  # torch reports damage in many ways, and advises what is unsafe
        raise InputError(
            f"{path} is damaged, or is not a replay buffer as MTT's script writes it: copy it "
            "again, or train experts with sdc-ext experts"
        ) from error
    if any(theirs != shapes for theirs in found):
        raise InputError(
            f"{path} holds experts of another network, whose parameters have other shapes: "
            "choose the experts' network with `network`"
        )
    return list(content)


def split_parameters(row: Tensor, sizes: list[int], shapes: Sequence[torch.Size]) -> list[Tensor]:
    """Splits one entry of a trajectory (P,) into one tensor per parameter.

    Args:
        row: The entry (P,).
        sizes: The number of elements of each parameter.
        shapes: The shape of each parameter.
    """
    parts = torch.split(row, sizes)
    return [part.view(shape).clone() for part, shape in zip(parts, shapes, strict=True)]

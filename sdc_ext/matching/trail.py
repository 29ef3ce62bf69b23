"""Stores what the backward pass of trajectory matching needs of each inner step."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from sdc_ext._files import naming
from sdc_ext.networks.kept_gradients import KeptGradient


class Trail:
    """Stores theta_n and g_n of all steps, and more of those that are not recomputed.

    On CPUs they are kept in a temporary file, which takes no measurable time and makes memory
    independent of N. Elsewhere they stay in the device's memory, since copying would delay the
    device.

    Attributes:
        kept: The gradients that are kept of a step's chunks, by the index of the step.
    """

    def __init__(self, like: Tensor) -> None:
        self.kept: dict[int, list[KeptGradient]] = {}
        self._pairs: list[tuple[Tensor, Tensor]] = []
        self._file: IO[bytes] | None = None
        self._count = like.numel()
        if like.device.type == "cpu":
            self._dtype = torch.empty(0, dtype=like.dtype, device="cpu").numpy().dtype
            self._file = tempfile.TemporaryFile(buffering=0, prefix="sdc-ext-")  # noqa: SIM115

    def append(self, theta: Tensor, g: Tensor) -> None:
        """Adds a step's parameters and gradient, (P,) each."""
        if self._file is None:
            self._pairs.append((theta, g))
        else:
            with naming(Path(tempfile.gettempdir())):
                for tensor in (theta, g):
                    tensor.numpy().tofile(self._file)

    def read(self, n: int) -> tuple[Tensor, Tensor]:
        """Returns the parameters and the gradient of step n, (P,) each."""
        if self._file is None:
            return self._pairs[n]
        row = 2 * self._count
        self._file.seek(n * row * self._dtype.itemsize)
        both = torch.from_numpy(np.fromfile(self._file, self._dtype, row))
        return both[: self._count], both[self._count :]

    def __del__(self) -> None:
        if self._file is not None:
            self._file.close()

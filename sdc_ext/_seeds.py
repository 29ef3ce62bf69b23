"""Seeds torch so that draws depend on the seed and the place in a run, not on earlier draws.

Each outer iteration and each evaluation seeds torch anew. A resumed run therefore draws what an
uninterrupted one draws, evaluations do not disturb the distillation, and all processes of a
launch draw the same numbers.
"""

from __future__ import annotations

import zlib
from types import TracebackType

import numpy as np
import torch


def seed_torch(seed: int, purpose: str, index: int = 0) -> None:
    """Seeds torch's global generators for one place of a run.

    Args:
        seed: The run's seed, at least 0.
        purpose: What the draws are for, e.g. ``"iteration"`` or ``"evaluation"``.
        index: The number of the iteration, evaluation, etc.
    """
    torch.manual_seed(_state(seed, purpose, index, np.uint64))


def derived_seed(seed: int, purpose: str, index: int) -> int:
    """Returns the seed of a run within a run, e.g. that of one shadow set.

    Args:
        seed: The seed of the whole, at least 0.
        purpose: What the run is for.
        index: The number of the run.
    """
    return _state(seed, purpose, index, np.uint32) >> 1


def _state(seed: int, purpose: str, index: int, kind: type[np.uint32 | np.uint64]) -> int:
    entropy = [seed, zlib.crc32(purpose.encode()), index]
    return int(np.random.SeedSequence(entropy).generate_state(1, kind)[0])


class Draws:
    """One of several streams of random numbers that take turns with torch's global generators.

    A stream begins where the generators are when it is made. In its context it goes on where it
    was left.

    Args:
        device: The device whose generator takes turns beside that of the CPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device if device.type == "cuda" else None
        self._leave()

    def __enter__(self) -> None:
        torch.set_rng_state(self._cpu)
        if self._device is not None:
            torch.cuda.set_rng_state(self._cuda, self._device)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        self._cpu = torch.get_rng_state()
        if self._device is not None:
            self._cuda = torch.cuda.get_rng_state(self._device)

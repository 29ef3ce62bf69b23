"""Seeds torch so that draws depend on the seed and the place in a run, not on earlier draws.

Each outer iteration and each evaluation seeds torch anew. A resumed run therefore draws what an
uninterrupted one draws, evaluations do not disturb the distillation, and all processes of a
launch draw the same numbers.
"""

from __future__ import annotations

import zlib

import numpy as np
import torch


def seed_torch(seed: int, purpose: str, index: int = 0) -> None:
    """Seeds torch's global generators for one place of a run.

    Args:
        seed: The run's seed, at least 0.
        purpose: What the draws are for, e.g. ``"iteration"`` or ``"evaluation"``.
        index: The number of the iteration, evaluation, etc.
    """
    entropy = [seed, zlib.crc32(purpose.encode()), index]
    torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]))

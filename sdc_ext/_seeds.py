"""Random numbers that depend on a seed and a place, not on what was drawn before.

Each outer iteration and each evaluation seeds torch anew. So a resumed run draws what an
uninterrupted one draws, evaluations do not disturb the distillation, and every process of a
launch draws the same.
"""

from __future__ import annotations

import zlib

import numpy as np
import torch


def seed_torch(seed: int, purpose: str, index: int = 0) -> None:
    """Seeds torch's global generators for one place of a run.

    Args:
        seed: the run's seed, at least 0.
        purpose: what is about to be drawn, e.g. ``"iteration"`` or ``"evaluation"``.
        index: which one of its kind.
    """
    entropy = [seed, zlib.crc32(purpose.encode()), index]
    torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]))

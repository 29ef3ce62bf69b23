"""Random numbers that depend on a seed and a place, not on what was drawn before.

Each outer iteration and each evaluation seeds torch anew. So a resumed run draws what an
uninterrupted one draws, evaluations do not disturb the distillation, and every process of a
launch draws the same.
"""

from __future__ import annotations

import itertools
import random
import sys
import sysconfig
import time
import zlib
from collections.abc import Callable

import numpy as np
import torch

from sdc_ext.patches import Patches


def seed_torch(seed: int, purpose: str, index: int = 0) -> None:
    """Seeds torch's global generators for one place of a run.

    Args:
        seed: the run's seed, at least 0.
        purpose: what is about to be drawn, e.g. ``"iteration"`` or ``"evaluation"``.
        index: which one of its kind.
    """
    entropy = [seed, zlib.crc32(purpose.encode()), index]
    torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]))


def seed_everything(seed: int, patches: Patches) -> None:
    """Seeds Python's, numpy's and torch's generators, and the clock for code of the script.

    The originals seed torch from ``time.time()`` whenever they make a network. Callers outside
    the installed packages get a clock that starts at the same time and advances a millisecond a
    look.
    """
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    installed = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})
    looks = itertools.count(1_700_000_000_000 + seed)

    def clock(original: Callable[[], float]) -> Callable[[], float]:
        def replaced() -> float:
            caller = sys._getframe(1).f_code.co_filename
            own = not caller.startswith((*installed, "<frozen"))
            return next(looks) / 1000 if own else original()

        return replaced

    patches.wrap(time, "time", clock)

"""Makes scripts reproducible that set no seed, or take it from the clock."""

from __future__ import annotations

import itertools
import random
import sys
import sysconfig
import time
from collections.abc import Callable

import numpy as np
import torch

from sdc_ext.injection.patches import Patches


def seed_everything(seed: int, patches: Patches) -> None:
    """Seeds Python's, numpy's and torch's generators, and replaces the script's clock.

    The original scripts seed torch from ``time.time()`` whenever they make a network. Callers
    outside the installed packages therefore get a clock that starts at a time given by the seed
    and advances by one millisecond per call.

    Args:
        seed: Seeds the generators and the clock.
        patches: Undoes the replacement of the clock.
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

"""Keeps freed memory for reuse, which speeds up training on Linux CPUs.

glibc returns large blocks to the system as soon as they are freed, so every activation of every
step is fresh memory that the kernel must clear page by page.
"""

from __future__ import annotations

import ctypes

# From glibc's malloc.h.
_M_TRIM_THRESHOLD = -1

_M_MMAP_MAX = -4


def keep_freed_memory() -> bool:
    """Makes glibc reuse this process's freed memory and never return it to the system.

    The peak does not change, but memory stays allocated between peaks. Call it once, early.

    Returns:
        Whether it took effect; without glibc it does nothing.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    # A trim threshold of -1 stands for "never".
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, -1))

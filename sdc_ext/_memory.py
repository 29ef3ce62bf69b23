"""Keeps freed memory for reuse, which speeds up training on Linux CPUs; explains a lack of it.

glibc returns large blocks to the system as soon as they are freed, so every activation of every
step is fresh memory that the kernel must clear page by page.
"""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sdc_ext.errors import InputError

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


def available_memory() -> float:
    """Returns the memory in bytes that this process can have; infinity if it is unknown."""
    found = [math.inf]
    with suppress(OSError, ValueError, AttributeError):  # not on Windows
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    with suppress(OSError, StopIteration):  # Linux
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(line for line in lines if line.startswith("MemAvailable:"))
        found.append(1024 * int(free.split()[1]))
    with suppress(OSError, ValueError):  # a container; without a limit it says "max"
        found.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return min(found)


@contextmanager
def advising_on_memory(advice: str) -> Iterator[None]:
    """Says what to do if something does not fit into memory.

    Args:
        advice: What to do, e.g. which setting to lower.

    Raises:
        InputError: If the memory of the machine or of its accelerator runs out.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        error.__traceback__ = None  # which keeps all tensors alive
        message = f"the memory is too small for this run: {advice}"
    else:
        return
    raise InputError(message)


def _is_out_of_memory(error: Exception) -> bool:
    import torch  # not at the top, because the command line starts without it

    # On CPUs, torch raises a RuntimeError with the name of its allocator.
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        "DefaultCPUAllocator" in str(error)
    )

"""A budget of time on which several processes agree."""

from __future__ import annotations

import time

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list


class Clock:
    """The time that is left, about which all processes agree.

    Args:
        seconds: The time from now on.
        accelerator: The processes.
    """

    def __init__(self, seconds: float, accelerator: Accelerator) -> None:
        self._end = time.monotonic() + seconds
        self._several = accelerator.num_processes > 1

    def left(self) -> float:
        """Returns the seconds that are left; negative once the time is over."""
        return self.agreed(self._end - time.monotonic())

    def agreed(self, seconds: float) -> float:
        """Returns a time as the main process measured it."""
        found = [seconds]
        if self._several:
            broadcast_object_list(found)
        return found[0]

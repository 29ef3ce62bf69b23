"""Budgets of time, and the time that runs take, on which several processes agree."""

from __future__ import annotations

import time
from collections.abc import Mapping
from statistics import fmean

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from sdc_ext.adapters.base import State
from sdc_ext.engine.callbacks import Callback, StopRun


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


class Watch(Callback):
    """Takes the time of every iteration, and stops the run once it has lasted long enough.

    Args:
        clock: The clock of all processes.
        seconds: The time after which the run stops.
    """

    def __init__(self, clock: Clock, seconds: float) -> None:
        self.steps: list[float] = []
        self._clock = clock
        self._seconds = seconds
        self._last = 0.0

    @property
    def pace(self) -> float:
        """The seconds of an iteration, without the first one if there are others: it warms up."""
        return fmean(self.steps[1:] or self.steps)

    def on_start(self, iteration: int, iterations: int) -> None:
        """Begins to take the time."""
        del iteration, iterations
        self._last = time.monotonic()

    def on_step(self, iteration: int, log: Mapping[str, float], state: State) -> None:
        """Takes the time of an iteration."""
        del iteration, log, state
        now = time.monotonic()
        self.steps.append(self._clock.agreed(now - self._last))
        self._last = now
        if sum(self.steps) > self._seconds:
            raise StopRun

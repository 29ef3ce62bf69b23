"""Counts the steps of cells, wherever they are taken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def _ignore() -> None:
    """Does nothing, in a worker, which cannot call back."""


class Steps:
    """Reports the steps of cells, e.g. epochs: at once, or all when a cell elsewhere is done.

    Args:
        on_step: Called once for every step.
        per_cell: The number of steps of a cell.
    """

    def __init__(self, on_step: Callable[[], object], per_cell: int) -> None:
        self._on_step = on_step
        self._per_cell = per_cell
        self._taken = 0

    def take(self) -> None:
        """Reports a step, in the process that takes it."""
        self._taken += 1
        self._on_step()

    def end_cell(self, index: int, result: object) -> None:
        """Reports the steps of a cell that were taken elsewhere; serves ``map`` as ``on_done``."""
        del index, result
        for _ in range(self._per_cell - self._taken):
            self._on_step()
        self._taken = 0

    def __reduce__(self) -> Any:
        return Steps, (_ignore, 0)

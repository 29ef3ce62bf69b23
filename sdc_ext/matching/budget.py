"""Decides which inner steps a memory budget keeps, so that they are not recomputed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from sdc_ext.networks.kept_gradients import KeptBytes


@dataclass(frozen=True)
class Forecast:
    """Which inner steps a memory budget keeps in this process.

    Attributes:
        step_bytes: The memory that each step takes if it is kept.
        kept: The number of steps that are kept, the last ones.
        whole: The number of those, again the last ones, whose whole graph is kept. The others
            keep the costly results.
    """

    step_bytes: Sequence[KeptBytes]
    kept: int
    whole: int

    @classmethod
    def of(cls, step_bytes: Sequence[KeptBytes], budget: float) -> Forecast:
        """Returns the choice that saves the most time.

        The last steps are kept, since the backward pass frees them before it recomputes others.
        The costly results of a step save more time per byte than its graph, if they take less
        than half of it. With what is left when all steps have theirs, graphs are kept instead.

        Args:
            step_bytes: The memory that each step takes if it is kept.
            budget: The memory in bytes for all of them.
        """
        whole = [size.whole for size in step_bytes]
        results = [size.results for size in step_bytes]
        if 2 * sum(results) > sum(whole):
            kept = _how_many(whole, budget)
            return cls(step_bytes, kept, kept)
        kept = _how_many(results, budget)
        more = [w - r for w, r in zip(whole, results, strict=True)]
        graphs = _how_many(more, budget - sum(results)) if kept == len(step_bytes) else 0
        return cls(step_bytes, kept, graphs)


def _how_many(sizes: Sequence[int], budget: float) -> int:
    """Returns how many of the last sizes fit into a budget together."""
    together: Iterable[int] = accumulate(reversed(sizes))
    return sum(size <= budget for size in together)

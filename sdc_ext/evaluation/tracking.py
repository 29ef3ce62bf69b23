"""How a recorded quantity changed over a run, without its noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import numpy.typing as npt

from sdc_ext.sets.info import SetInfo


def running_mean(values: Sequence[float]) -> tuple[int, npt.NDArray[np.float64]]:
    """The mean over a twentieth of a curve up to each of its points.

    Args:
        values: the curve, of at least one point; NaN entries (skipped iterations) are left out of
            their means.

    Returns:
        How many points at the start have no mean yet, and the means of the others.
    """
    width = max(1, len(values) // 20)
    windows = np.lib.stride_tricks.sliding_window_view(np.asarray(values, float), width)
    means = np.ma.masked_invalid(windows).mean(1)
    return width - 1, np.ma.filled(means, np.nan)


def warm_up(info: SetInfo, iterations: int) -> int:
    """How many iterations at the start of a run are not comparable with the rest of it.

    In their warm-up DCC and DSAC record one norm per class, and a single norm of all classes'
    mean gradient after it. The step between the two says nothing about how samples changed.

    Args:
        info: The set that the run distilled.
        iterations: How many iterations the run recorded.

    Returns:
        The length of the warm-up; 0 if there is none, or if the run never left it.
    """
    if not info.value("contrast"):
        return 0
    length = int(info.value("outer_warmup") or 0)
    return length if length < iterations else 0


@dataclass(frozen=True)
class Drift:
    """How a curve changed: its means over the first and over the last tenth.

    Attributes:
        first: Mean over the first tenth; NaN if nothing was recorded.
        last: Mean over the last tenth; NaN if nothing was recorded.
    """

    first: float
    last: float

    @classmethod
    def of(cls, values: Sequence[float], skip: int = 0) -> Drift:
        """The drift of a curve, without the entries that are not finite.

        Args:
            values: The curve.
            skip: How many points to leave out at the start; see ``warm_up``.
        """
        curve = np.asarray(values, float)[skip:]
        curve = curve[np.isfinite(curve)]
        if len(curve) == 0:
            return cls(np.nan, np.nan)
        tenth = max(1, len(curve) // 10)
        return cls(float(curve[:tenth].mean()), float(curve[-tenth:].mean()))

    @classmethod
    def mean(cls, drifts: Sequence[Drift]) -> Drift:
        """The mean drift of several runs, of which there is at least one."""
        return cls(fmean(drift.first for drift in drifts), fmean(drift.last for drift in drifts))

    def __str__(self) -> str:
        change = 100 * (self.last / self.first - 1) if self.first else np.nan
        return f"{self.first:.3g} → {self.last:.3g} ({change:+.0f} %)"

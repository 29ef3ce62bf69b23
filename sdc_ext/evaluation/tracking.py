"""Tracking a recorded quantity over a run: running means and drift."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from statistics import fmean

import numpy as np
import numpy.typing as npt

from sdc_ext.sets.info import SetInfo

# Below the first share, a correction is reported as hardly acting; the second one is suggested.
_HARDLY, _SEEN = 1e-3, 0.1


def running_mean(values: Sequence[float]) -> tuple[int, npt.NDArray[np.float64]]:
    """Computes the running mean of a curve over windows of a twentieth of its length.

    Args:
        values: A curve of at least one point; NaN entries (skipped iterations) are ignored.

    Returns:
        The number of points at the start without a full window, and the means that end at all
        other points.
    """
    width = max(1, len(values) // 20)
    windows = np.lib.stride_tricks.sliding_window_view(np.asarray(values, float), width)
    means = np.ma.masked_invalid(windows).mean(1)
    return width - 1, np.ma.filled(means, np.nan)


def warm_up(info: SetInfo, iterations: int) -> int:
    """Returns the number of iterations at the start of a run whose GraDN is not comparable.

    During their warm-up DCC and DSAC record the mean of one norm per class, and afterwards the
    single norm of the mean gradient of all classes. The jump between the two says nothing about
    the difficulty of the samples.

    Args:
        info: The description of the set that the run distilled.
        iterations: The number of iterations that the run recorded.

    Returns:
        The length of the warm-up; 0 if there is none, or if the run never left it.
    """
    if not info.value("contrast"):
        return 0
    length = int(info.value("outer_warmup") or 0)
    return length if length < iterations else 0


@dataclass(frozen=True)
class Drift:
    """The change of a curve from its first to its last tenth.

    Attributes:
        first: Mean over the first tenth; NaN if nothing was recorded.
        last: Mean over the last tenth; NaN if nothing was recorded.
    """

    first: float
    last: float

    @classmethod
    def of(cls, values: Sequence[float], skip: int = 0) -> Drift:
        """Measures the drift of a curve; entries that are not finite are ignored.

        Args:
            values: The curve.
            skip: The number of points to leave out at the start; see
                [`warm_up`][sdc_ext.evaluation.warm_up].
        """
        curve = np.asarray(values, float)[skip:]
        curve = curve[np.isfinite(curve)]
        if len(curve) == 0:
            return cls(np.nan, np.nan)
        tenth = max(1, len(curve) // 10)
        return cls(float(curve[:tenth].mean()), float(curve[-tenth:].mean()))

    @classmethod
    def mean(cls, drifts: Sequence[Drift]) -> Drift:
        """Averages the drifts of one or more runs."""
        return cls(fmean(drift.first for drift in drifts), fmean(drift.last for drift in drifts))

    def __str__(self) -> str:
        change = 100 * (self.last / self.first - 1) if self.first else np.nan
        return f"{self.first:.3g} → {self.last:.3g} ({change:+.0f} %)"


def hardly_acts(share: float) -> bool:
    """Returns whether a share that was measured is so small that nothing can come of it."""
    return 0 < share < _HARDLY


@dataclass(frozen=True)
class Action:
    """How strongly a correction acted on the images, on average over the updates it corrected.

    Attributes:
        share: The norm of its image gradient over that of the matching loss's; NaN if it was not
            measured.
        cosine: The cosine between the two; NaN if it was not measured.
        lam: The weight of the correction.
    """

    share: float
    cosine: float
    lam: float

    @classmethod
    def of(cls, history: Mapping[str, Sequence[float]]) -> Action:
        """Averages the columns ``share``, ``cosine`` and ``lam`` of a history.

        Updates with lam 0 are left out, unless there are no others: where lam follows from a
        share, there is none before the first measure, e.g. in the first image step of a TESLA
        script. Entries that are not finite are ignored, and so are missing columns.
        """
        columns = [history.get(name, ()) for name in ("share", "cosine", "lam")]
        corrected = [lam > 0 for lam in columns[-1]]
        if any(corrected):
            columns = [list(compress(column, corrected)) for column in columns]
        return cls(*map(_mean, columns))

    def __str__(self) -> str:
        cosine = "" if math.isnan(self.cosine) else f", cosine {self.cosine:+.2f}"
        return f"{100 * self.share:.2g} % of the matching loss's image gradient{cosine}"

    @property
    def advice(self) -> str | None:
        """A sentence on a correction that can hardly have acted; None for all others."""
        if not hardly_acts(self.share):
            return None
        return (
            f"the correction can hardly have acted: its image gradient was {100 * self.share:.2g} "
            f"% of the matching loss's; lam {self.lam * _SEEN / self.share:.2g} would make it a "
            f"tenth, as a share of {_SEEN} does with any method"
        )


def _mean(values: Iterable[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return fmean(finite) if finite else math.nan

"""How a recorded quantity changed over a run, without its noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


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


@dataclass(frozen=True)
class Drift:
    """What a curve was at first and at last: means over the first and the last tenth of it.

    Attributes:
        first: NaN if nothing was recorded.
        last: likewise.
    """

    first: float
    last: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Drift:
        """The drift of a curve, NaN entries left out."""
        curve = np.asarray(values, float)
        curve = curve[~np.isnan(curve)]
        if len(curve) == 0:
            return cls(np.nan, np.nan)
        tenth = max(1, len(curve) // 10)
        return cls(float(curve[:tenth].mean()), float(curve[-tenth:].mean()))

    def __str__(self) -> str:
        change = 100 * (self.last / self.first - 1) if self.first else np.nan
        return f"{self.first:.3g} → {self.last:.3g} ({change:+.0f} %)"

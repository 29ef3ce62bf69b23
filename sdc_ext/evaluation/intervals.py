"""What all intervals share: their confidence, Student's quantiles, and the mean with its own."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import stats

CONFIDENCE = 0.95

# The probabilities between which a distribution has its middle.
TAILS = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)

Array: TypeAlias = NDArray[np.float64]

Interval: TypeAlias = tuple[float, float]


def t_quantile(freedom: int) -> float:
    """Returns Student's quantile for two-sided intervals, by the degrees of freedom."""
    return float(stats.t.ppf(TAILS[1], freedom))


def t_half_width(values: Sequence[float]) -> float:
    """Returns half of the 95 % interval of a mean by Student's t, of at least 2 values."""
    n = len(values)
    error = float(np.std(values, ddof=1)) / float(n**0.5)
    return t_quantile(n - 1) * error


@dataclass(frozen=True)
class MeanInterval:
    """A mean over networks with its 95 % interval by Student's t.

    Attributes:
        mean: The mean.
        half_width: Half of the interval's width; NaN for a single network.
    """

    mean: float
    half_width: float

    @classmethod
    def of(cls, values: Sequence[float]) -> MeanInterval:
        """Returns the mean of at least one value, one per network."""
        half = t_half_width(values) if len(values) > 1 else float("nan")
        return cls(statistics.fmean(values), half)

"""The size that a target requires, read off measurements without a law."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from scipy import stats
from sklearn.isotonic import IsotonicRegression

from sdc_ext.theory.fitting import Array

Censoring: TypeAlias = Literal["none", "above", "below"]

_LEAST_POINTS = 3


@dataclass(frozen=True)
class Required:
    """The size that a target requires for the worst of M.

    Attributes:
        count: M.
        images: how many; where censored, the largest or smallest size measured.
        censored: ``"above"`` if the largest size misses the target, so that more are required;
            ``"below"`` if the smallest one reaches it.
    """

    count: int
    images: float
    censored: Censoring


@dataclass(frozen=True)
class Trend:
    """A straight line through the required sizes that are not censored.

    Attributes:
        slope: images a unit.
        intercept: images at 0.
        r_squared: the share of the variance that it explains.
    """

    slope: float
    intercept: float
    r_squared: float


def required_sizes(
    sizes: Array, counts: Sequence[int], worst: Array, target: float
) -> tuple[Required, ...]:
    """Where the worst of M, made to fall with the size, passes the target.

    Args:
        sizes: numbers of images, ascending.
        counts: M.
        worst: (counts, sizes).
        target: to be reached.
    """
    return tuple(
        Required(m, *_crossing(sizes, row, target)) for m, row in zip(counts, worst, strict=True)
    )


def _crossing(sizes: Array, values: Array, target: float) -> tuple[float, Censoring]:
    falling = IsotonicRegression(increasing=False).fit_transform(np.log(sizes), values)
    if falling[0] <= target:
        return float(sizes[0]), "below"
    if falling[-1] > target:
        return float(sizes[-1]), "above"
    first = int(np.argmax(falling <= target))
    pair = slice(first - 1, first + 1)
    # np.interp wants what it interpolates over to rise.
    return float(np.exp(np.interp(-target, -falling[pair], np.log(sizes)[pair]))), "none"


def trend(required: Sequence[Required], scale: Callable[[Any], Any]) -> Trend | None:
    """The required size over M on a scale; None with fewer than 3 that are not censored."""
    seen = [r for r in required if r.censored == "none"]
    if len(seen) < _LEAST_POINTS:
        return None
    line = stats.linregress(scale([r.count for r in seen]), [r.images for r in seen])
    return Trend(float(line.slope), float(line.intercept), float(line.rvalue**2))

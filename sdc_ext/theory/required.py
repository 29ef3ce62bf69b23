"""Reading the size that a target requires off the measurements, without assuming a law."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
from scipy import stats
from sklearn.isotonic import IsotonicRegression

from sdc_ext._kinds import Number
from sdc_ext.evaluation.intervals import Array

Target: TypeAlias = Annotated[float, Number(0, 1, "()")]
"""A gap or error to reach, as a fraction."""

Censoring: TypeAlias = Literal["none", "above", "below"]

_LEAST_POINTS = 3


@dataclass(frozen=True)
class Required:
    """The size that a target requires for the worst of M.

    Attributes:
        count: The number of configurations M.
        images: The required number of images; if censored, the largest or smallest measured size.
        censored: ``"above"`` if the largest size misses the target, so that more images are
            required; ``"below"`` if the smallest size already reaches it; ``"none"`` otherwise.
    """

    count: int
    images: float
    censored: Censoring


@dataclass(frozen=True)
class Trend:
    """A straight line through the required sizes that are not censored.

    Attributes:
        slope: The additional images per unit of the scale.
        intercept: The number of images at 0.
        r_squared: The share of the variance that the line explains.
    """

    slope: float
    intercept: float
    r_squared: float


def required_sizes(
    sizes: Array, counts: Sequence[int], worst: Array, target: float
) -> tuple[Required, ...]:
    """Returns the size at which the worst of M reaches the target, one per M.

    The measurements are first fitted by a curve that falls with the size (isotonic regression),
    and interpolated over the logarithm of the size.

    Args:
        sizes: The numbers of images (sizes,), ascending.
        counts: The values of M.
        worst: The gap or error of the worst of M (counts, sizes).
        target: The gap or error to reach.
    """
    return tuple(
        Required(m, *_crossing(sizes, row, target)) for m, row in zip(counts, worst, strict=True)
    )


def middle(worst: Array) -> float:
    """Returns the middle between the highest value at the last size and the lowest at the first.

    Args:
        worst: The gap or error of the worst of M (..., sizes).
    """
    return float((worst[..., -1].max() + worst[..., 0].min()) / 2)


def _crossing(sizes: Array, values: Array, target: float) -> tuple[float, Censoring]:
    falling = IsotonicRegression(increasing=False).fit_transform(np.log(sizes), values)
    if falling[0] <= target:
        return float(sizes[0]), "below"
    if falling[-1] > target:
        return float(sizes[-1]), "above"
    first = int(np.argmax(falling <= target))
    pair = slice(first - 1, first + 1)
    # np.interp needs rising abscissae, hence the signs.
    return float(np.exp(np.interp(-target, -falling[pair], np.log(sizes)[pair]))), "none"


def trend(required: Sequence[Required], scale: Callable[[Any], Any]) -> Trend | None:
    """Fits a line to the required size over M on a scale; None with fewer than 3 uncensored sizes.

    Args:
        required: The required sizes, one per M.
        scale: Maps the values of M to the horizontal axis, e.g. ``np.log``.
    """
    seen = [r for r in required if r.censored == "none"]
    if len(seen) < _LEAST_POINTS:
        return None
    line = stats.linregress(scale([r.count for r in seen]), [r.images for r in seen])
    return Trend(float(line.slope), float(line.intercept), float(line.rvalue**2))

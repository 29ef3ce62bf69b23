"""Fits of curves with few parameters to few points, compared with one another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import least_squares

Array: TypeAlias = NDArray[np.float64]
Interval: TypeAlias = tuple[float, float]
Bounds: TypeAlias = tuple[Sequence[float], Sequence[float]]

_CONFIDENCE = 0.95


def fit(
    curve: Callable[[Array], Array],
    values: Array,
    bounds: Bounds,
    starts: Sequence[ArrayLike],
    covariance: Array | None = None,
) -> tuple[Array, float]:
    """The parameters within bounds whose curve is nearest to the values.

    Args:
        curve: the values at all points, of parameters.
        values: (points,), measured.
        bounds: least and greatest parameters.
        starts: parameters to start from; the best end counts.
        covariance: (points, points), of the values; left out, all are equally exact.

    Returns:
        The parameters and the deviance, the sum of squares of the whitened residuals.
    """
    whiten = np.eye(len(values)) if covariance is None else whitening(covariance)

    def residuals(parameters: Array) -> Array:
        return np.asarray(whiten @ (curve(parameters) - values))

    ends = [least_squares(residuals, np.clip(s, *bounds), bounds=bounds) for s in starts]
    best = min(ends, key=lambda end: float(end.cost))
    return best.x, 2 * float(best.cost)


def whitening(covariance: Array) -> Array:
    """The matrix that makes residuals of this covariance independent, of variance 1."""
    return np.asarray(np.linalg.inv(np.linalg.cholesky(covariance)))


def corrected_aic(deviance: float, points: int, parameters: int) -> float:
    """AICc of a fit to values of known variance; infinite with too few points for it."""
    spare = points - parameters - 1
    if spare <= 0:
        return np.inf
    return deviance + 2 * parameters + 2 * parameters * (parameters + 1) / spare


def interval(draws: ArrayLike) -> Interval:
    """The middle 95 % of draws."""
    tail = (1 - _CONFIDENCE) / 2
    # Infinite draws are compared, not averaged.
    low, high = np.quantile(np.asarray(draws), [tail, 1 - tail], method="nearest")
    return float(low), float(high)

"""Fitting curves with few parameters to few points, and comparing the fits."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import least_squares

from sdc_ext.evaluation.intervals import TAILS, Array, Interval

Bounds: TypeAlias = tuple[Sequence[float], Sequence[float]]


@dataclass(frozen=True)
class Profile:
    """The fits of ``B + A g`` to many draws at once, over all candidates for the shape g.

    Attributes:
        chosen: The index of the best shape for each draw (draws,).
        amplitude: The amplitude A for each draw (draws,), at least 0.
        floor: The floor B for each draw (draws,), at least 0.
    """

    chosen: NDArray[np.int64]
    amplitude: Array
    floor: Array

    @classmethod
    def of(cls, shapes: Array, draws: Array, whiten: Array, with_floor: bool) -> Profile:
        """Solves for A and B in closed form and compares all shapes.

        Unlike an iterative fit, the result does not depend on a start.

        Args:
            shapes: The candidates for g (shapes, points).
            draws: The values to fit (draws, points).
            whiten: A matrix (points, points); see ``whitening``.
            with_floor: Whether B is free; otherwise it is 0.
        """
        g, y, one = shapes @ whiten.T, draws @ whiten.T, whiten.sum(1)
        gg, go, oo = (g**2).sum(1), g @ one, one @ one
        yg, yo = y @ g.T, (y @ one)[:, None]
        alone = np.maximum(yg / gg, 0)
        amplitude, floor = alone, np.zeros_like(alone)
        if with_floor:
            determinant = gg * oo - go**2
            amplitude = (yg * oo - yo * go) / determinant
            floor = (yo * gg - yg * go) / determinant
            # If one of the two would be negative, the best fit has the other one alone.
            flat, low = amplitude < 0, floor < 0
            floor = np.where(flat, np.maximum(yo / oo, 0), np.where(low, 0, floor))
            amplitude = np.where(flat, 0, np.where(low, alone, amplitude))
        explained = 2 * (amplitude * yg + floor * yo) - (
            amplitude**2 * gg + 2 * amplitude * floor * go + floor**2 * oo
        )
        chosen = explained.argmax(1)
        rows = np.arange(len(draws))
        return cls(chosen, amplitude[rows, chosen], floor[rows, chosen])


def fit(
    curve: Callable[..., Array],
    values: Array,
    start: ArrayLike,
    bounds: Bounds,
    covariance: Array,
) -> tuple[Array, float]:
    """Finds the parameters within bounds whose curve is closest to the values.

    Args:
        curve: Maps parameters to values at all points (points,).
        values: The measured values (points,).
        start: Parameters close to the best ones.
        bounds: The lower and the upper bounds of the parameters.
        covariance: The covariance of the values (points, points).

    Returns:
        The parameters and the deviance, the sum of squares of the whitened residuals.
    """
    whiten = whitening(covariance)

    def residuals(parameters: Array) -> Array:
        return np.asarray(whiten @ (curve(*parameters) - values))

    end = least_squares(residuals, np.clip(start, *bounds), bounds=bounds)
    return end.x, 2 * float(end.cost)


def whitening(covariance: Array) -> Array:
    """Returns the matrix that makes residuals of this covariance independent with variance 1."""
    return np.asarray(np.linalg.inv(np.linalg.cholesky(covariance)))


def corrected_aic(deviance: float, points: int, parameters: int) -> float:
    """Returns the AICc of a fit to points, up to a constant; infinite with too few points."""
    spare = points - parameters - 1
    if spare <= 0:
        return np.inf
    return deviance + 2 * parameters + 2 * parameters * (parameters + 1) / spare


def interval(draws: ArrayLike) -> Interval:
    """Returns the interval of the middle 95 % of draws."""
    # Draws may be infinite, and interpolation between them would be NaN.
    low, high = np.quantile(np.asarray(draws), TAILS, method="nearest")
    return float(low), float(high)


def finite(content: Any) -> Any:
    """Replaces infinity and NaN, which JSON does not have, by None throughout some content."""
    if isinstance(content, dict):
        return {key: finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content

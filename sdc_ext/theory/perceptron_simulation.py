"""Simulated perceptrons in finitely many dimensions, trained exactly, to check the theory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from scipy.optimize import nnls

from sdc_ext._kinds import Whole
from sdc_ext._values import Seed, check_fields
from sdc_ext.errors import InputError
from sdc_ext.theory.perceptron import Selection
from sdc_ext.theory.saddle_point import Array

# The most numbers that the samples of one trial may hold: 1.6 GB.
_MOST_NUMBERS = 2e8


@dataclass(frozen=True)
class Simulation:
    """Simulated students for one selection and one number of samples.

    Attributes:
        errors: The test error of each student (trials,), computed exactly from its weights.
        dimensions: The number of dimensions of the samples.
    """

    errors: Array
    dimensions: int

    @property
    def mean(self) -> float:
        """The mean test error over the trials."""
        return float(self.errors.mean())

    @property
    def standard_error(self) -> float:
        """The standard error of the mean; NaN for a single trial."""
        return float(self.errors.std(ddof=1) / math.sqrt(len(self.errors)))


@dataclass(frozen=True)
class Simulator:
    """Draws samples, selects some of them, and trains students on these.

    Test errors deviate from the limit of many dimensions by up to about ``0.5 / dimensions``.

    Attributes:
        dimensions: The number of dimensions d of the samples, at least 2.
        trials: The number of students per point.
        seed: Seeds the samples.

    Raises:
        InputError: If there are fewer than 2 dimensions, or no trials.
    """

    dimensions: Annotated[int, Whole(2, 100_000)] = 200
    trials: Annotated[int, Whole(1, 10**6)] = 10
    seed: Seed = 0

    def __post_init__(self) -> None:
        check_fields(self)

    def __call__(self, selection: Selection, alpha: float) -> Simulation:
        """Trains students on ``alpha * dimensions`` kept samples.

        Raises:
            InputError: If f is so small that too many samples would have to be drawn.
        """
        if alpha * self.dimensions**2 / selection.f > _MOST_NUMBERS:
            raise InputError(
                f"f = {selection.f:g} is too small to simulate alpha {alpha:g} in "
                f"{self.dimensions} dimensions: simulate fewer dimensions, or none"
            )
        draw = np.random.default_rng(self.seed)
        errors = [self._trial(selection, alpha, draw) for _ in range(self.trials)]
        return Simulation(np.array(errors), self.dimensions)

    def _trial(self, selection: Selection, alpha: float, draw: np.random.Generator) -> float:
        kept = max(1, round(alpha * self.dimensions))
        x = draw.standard_normal((round(kept / selection.f), self.dimensions))
        teacher = np.zeros(self.dimensions)
        teacher[:2] = math.cos(selection.gamma), math.sin(selection.gamma)
        near_first = np.abs(x[:, 0]).argsort()  # the probe is the first axis
        x = x[near_first[-kept:] if selection.keep == "easy" else near_first[:kept]]
        student = largest_margin(x * np.sign(x @ teacher)[:, None])
        return math.acos(np.clip(student @ teacher, -1, 1)) / math.pi


def largest_margin(signed: Array) -> Array:
    """Returns the unit vector J (d,) with the largest ``min_i J . signed_i``, without an intercept.

    It is proportional to the shortest J for which all ``J . signed_i >= 1``, which non-negative
    least squares finds.

    Args:
        signed: The samples multiplied by their labels (n, d), separable.

    Reference: Lawson and Hanson, "Solving Least Squares Problems", Chapter 23.
    """
    n, d = signed.shape
    weights, _ = nnls(np.vstack([signed.T, np.ones(n)]), np.eye(d + 1)[d])
    direction: Array = signed.T @ weights
    return direction / np.linalg.norm(direction)

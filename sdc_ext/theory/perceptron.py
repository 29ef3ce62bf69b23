"""Test error of a perceptron trained on selected samples: the theory behind SDC.

Samples ``x ~ N(0, I_d)`` are labelled by a teacher. A probe keeps the easy ones, far from its
boundary, or the hard ones, near it. A student is trained on the kept samples to the largest margin.
In the limit of many dimensions d its test error depends on the number of kept samples per dimension
(alpha), the share of the samples that is kept (f), and the angle between probe and teacher (gamma).

The theory is about selected samples; for synthetic ones it is an analogy. Errors are compared at
equal numbers of kept samples, for which a selection with share f draws ``1 / f`` times as many.

Reference: SDC paper, Section 3.2 and Appendix 4, after Sorscher et al., "Beyond neural scaling
laws: beating power law scaling via data pruning".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import numpy as np
from scipy.optimize import brentq

from sdc_ext.errors import InputError, check_choice
from sdc_ext.theory.saddle_point import Plane, Problem, follow, solve_aligned

Keep = Literal["all", "easy", "hard"]

LEAST_SHARE = 1e-6
"""The smallest kept share. Errors are exact to 1e-7 down to it, and to less and less below."""


@dataclass(frozen=True)
class Selection:
    """A selection of samples by a probe.

    Attributes:
        keep: The samples to keep: ``"easy"`` (far from the probe's boundary), ``"hard"`` (near it)
            or ``"all"``.
        f: The share of the samples that is kept, at least 1e-6 and below 1; 1 for ``"all"``.
        gamma: The angle between probe and teacher in radians, in [0, pi/2).

    Raises:
        InputError: If a value is out of range.
    """

    keep: Keep
    f: float = 1.0
    gamma: float = 0.0

    def __post_init__(self) -> None:
        check_choice("selection", self.keep, get_args(Keep))
        if not LEAST_SHARE <= self.f <= 1 or (self.keep == "all") != (self.f == 1):
            raise InputError(
                f"the kept share f must be between {LEAST_SHARE:g} and 1 for easy and hard, and 1 "
                f"for all, got {self.f:g} for {self.keep}"
            )
        if not 0 <= self.gamma < math.pi / 2:
            raise InputError(
                f"gamma must be at least 0 and below 90 degrees, got {math.degrees(self.gamma):g}"
            )

    def problem(self, alpha: float) -> Problem:
        """Returns the problem to solve for ``alpha`` kept samples per dimension."""
        return Problem(self.keep == "easy", self.f, self.gamma, alpha)


@dataclass(frozen=True)
class Student:
    """A trained student in the limit of many dimensions.

    Attributes:
        overlap: The cosine of the angle between student and teacher (R).
        probe_overlap: The cosine of the angle between student and probe (rho).
        margin: The largest margin that a student of length 1 reaches (kappa).
    """

    overlap: float
    probe_overlap: float
    margin: float

    @classmethod
    def of(cls, plane: Plane, gamma: float) -> Student:
        """Returns the student with the given components in the plane of probe and teacher."""
        overlap = plane.probe * math.cos(gamma) + plane.beside * math.sin(gamma)
        return cls(overlap * plane.unit, plane.probe * plane.unit, plane.margin * plane.unit)

    @property
    def error(self) -> float:
        """The test error ``arccos(R) / pi``, in [0, 1] (SDC paper, Eq. 8)."""
        return math.acos(min(1.0, self.overlap)) / math.pi


@dataclass(frozen=True)
class Curve:
    """The learning curve of a selection: students for growing numbers of samples.

    Attributes:
        selection: The selection of the samples.
        alphas: The numbers of kept samples per dimension, increasing.
        planes: The solution for each alpha, in the form of ``saddle_point``.
    """

    selection: Selection
    alphas: tuple[float, ...]
    planes: tuple[Plane, ...]

    @property
    def students(self) -> list[Student]:
        """The trained students, one per alpha."""
        return [Student.of(plane, self.selection.gamma) for plane in self.planes]

    @property
    def errors(self) -> list[float]:
        """The test errors in [0, 1], one per alpha."""
        return [student.error for student in self.students]

    def at(self, alpha: float) -> Student:
        """Returns the student for another alpha, at least the first one of the curve.

        Raises:
            InputError: If it is smaller, or if no solution is found.
        """
        if not self.alphas[0] <= alpha < math.inf:
            raise InputError(
                f"alpha must be at least {self.alphas[0]:g}, where the curve begins, got {alpha:g}"
            )
        below = int(np.searchsorted(self.alphas, alpha, side="right")) - 1
        start = self.alphas[below], self.planes[below]
        return Student.of(_continue(self.selection, start, alpha), self.selection.gamma)


def solve(selection: Selection, alphas: Sequence[float]) -> Curve:
    """Solves the theory of students trained on ``alpha * d`` kept samples.

    A point takes milliseconds for a perfect probe, and a tenth of a second or more for others.

    Args:
        selection: The selection of the samples.
        alphas: The numbers of kept samples per dimension, above 0 and increasing; at
            least one.

    Raises:
        InputError: If ``alphas`` are not so, or if no solution is found, which may happen for tiny
            f and gamma.

    Reference: SDC paper, Appendix 4.
    """
    if len(alphas) == 0 or not all(a < b for a, b in pairwise([0, *alphas, math.inf])):
        raise InputError(
            f"alphas, at least one, must be above 0 and increasing, got {list(alphas)}"
        )
    planes: list[Plane] = []
    for k, alpha in enumerate(alphas):
        start = (alphas[k - 1], planes[-1]) if planes else None
        planes.append(_continue(selection, start, alpha))
    return Curve(selection, tuple(alphas), tuple(planes))


def crossover(first: Curve, second: Curve) -> float | None:
    """Returns the smallest alpha at which two curves cross; None if they do not.

    Args:
        first: A learning curve.
        second: A learning curve over the same alphas.
    """
    signs = np.sign(np.subtract(first.errors, second.errors))
    changes = np.nonzero(signs[1:] * signs[:-1] < 0)[0]
    if len(changes) == 0:
        return None

    def difference(alpha: float) -> float:
        return first.at(alpha).error - second.at(alpha).error

    low, high = first.alphas[changes[0]], first.alphas[changes[0] + 1]
    return float(brentq(difference, low, high, xtol=1e-7))


def _continue(selection: Selection, start: tuple[float, Plane] | None, alpha: float) -> Plane:
    problem = selection.problem(alpha)
    if selection.gamma == 0 or selection.keep == "all":
        # Keeping all samples does not involve the probe, so the student lies along the teacher.
        return solve_aligned(problem).turned(selection.gamma)
    return follow(problem, start)

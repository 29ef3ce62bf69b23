"""Test error of a perceptron on selected samples: the theory behind correcting difficulty.

A student is trained to the largest margin on samples ``x ~ N(0, I_d)`` that a teacher labels, and
of which a probe has kept the easy ones (far from its boundary) or the hard ones (near it). In the
limit of many dimensions d the error depends on how many samples are kept per dimension (alpha),
which share they are of those drawn (f), and the angle between probe and teacher (gamma).

It is a theory of selected samples: for synthesised ones it is an analogy. Errors are compared at
equal numbers of kept samples, for which a selection of share f has drawn ``1 / f`` times as many.

Reference: SDC paper, Section 3.2 and Appendix 4, after Sorscher et al., "Beyond neural scaling
laws: beating power law scaling via data pruning".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from scipy.optimize import brentq

from sdc_ext.errors import InputError, check_choice
from sdc_ext.theory.saddle_point import Plane, Problem, follow, solve_aligned

Keep = Literal["all", "easy", "hard"]


@dataclass(frozen=True)
class Selection:
    """Which samples are kept.

    Attributes:
        keep: ``"easy"`` (far from the probe's boundary), ``"hard"`` (near it) or ``"all"``.
        f: the kept share: in (0, 1), and 1 for ``"all"``.
        gamma: the angle between probe and teacher in radians, in [0, pi/2).

    Raises:
        InputError: if a value is out of range.
    """

    keep: Keep
    f: float = 1.0
    gamma: float = 0.0

    def __post_init__(self) -> None:
        check_choice("selection", self.keep, get_args(Keep))
        if not 0 < self.f <= 1 or (self.keep == "all") != (self.f == 1):
            raise InputError(
                "the kept share f must be between 0 and 1 for easy and hard, and 1 for all, got "
                f"{self.f:g} for {self.keep}"
            )
        if not 0 <= self.gamma < math.pi / 2:
            raise InputError(
                f"gamma must be from 0 to below 90 degrees, got {math.degrees(self.gamma):g}"
            )

    def problem(self, alpha: float) -> Problem:
        """What has to be solved for ``alpha`` kept samples per dimension."""
        return Problem(self.keep == "easy", self.f, self.gamma, alpha)


@dataclass(frozen=True)
class Student:
    """A trained student, in the limit of many dimensions.

    Attributes:
        overlap: cosine between student and teacher (R).
        probe_overlap: cosine between student and probe (rho).
        margin: the largest margin of a student of length 1 (kappa).
    """

    overlap: float
    probe_overlap: float
    margin: float

    @classmethod
    def of(cls, plane: Plane, gamma: float) -> Student:
        """The student with these components in the plane of probe and teacher."""
        overlap = plane.probe * math.cos(gamma) + plane.beside * math.sin(gamma)
        return cls(overlap * plane.unit, plane.probe * plane.unit, plane.margin * plane.unit)

    @property
    def error(self) -> float:
        """Test error, ``arccos(R) / pi`` (SDC paper, Eq. 8)."""
        return math.acos(min(1.0, self.overlap)) / math.pi


@dataclass(frozen=True)
class Curve:
    """Students over the number of samples.

    Attributes:
        selection: which samples were kept.
        alphas: kept samples per dimension, increasing.
        planes: what was found for each, as ``saddle_point`` has it.
    """

    selection: Selection
    alphas: tuple[float, ...]
    planes: tuple[Plane, ...]

    @property
    def students(self) -> list[Student]:
        return [Student.of(plane, self.selection.gamma) for plane in self.planes]

    @property
    def errors(self) -> list[float]:
        """Test errors, one an alpha."""
        return [student.error for student in self.students]

    def at(self, alpha: float) -> Student:
        """The student for another alpha, not below the first one of the curve."""
        below = int(np.searchsorted(self.alphas, alpha, side="right")) - 1
        start = self.alphas[below], self.planes[below]
        return Student.of(_continue(self.selection, start, alpha), self.selection.gamma)


def solve(selection: Selection, alphas: Sequence[float]) -> Curve:
    """Students trained on ``alpha * d`` kept samples.

    Takes milliseconds a point for a perfect probe, and a tenth of a second or more for others.

    Args:
        selection: which samples are kept.
        alphas: kept samples per dimension, above 0 and increasing.

    Raises:
        InputError: if ``alphas`` are not above 0 and increasing.
        InputError: or if no solution is found, as may be for tiny f and gamma.
    """
    if not all(0 < a < b for a, b in zip(alphas, [*alphas[1:], math.inf], strict=True)):
        raise InputError(f"alphas must be above 0 and increasing, got {list(alphas)}")
    planes: list[Plane] = []
    for k, alpha in enumerate(alphas):
        start = (alphas[k - 1], planes[-1]) if planes else None
        planes.append(_continue(selection, start, alpha))
    return Curve(selection, tuple(alphas), tuple(planes))


def crossover(first: Curve, second: Curve) -> float | None:
    """The alpha at which two curves over the same alphas cross first; None if they do not there."""
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
        # A selection of all does not see the probe: the student lies along the teacher.
        return solve_aligned(problem).turned(selection.gamma)
    return follow(problem, start)

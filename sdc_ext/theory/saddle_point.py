"""The saddle-point equations of a largest-margin student on selected samples, solved.

In the plane of probe and teacher the student has the components rho along the probe and b beside
it, and ``s^2 = 1 - rho^2 - b^2`` outside. With z along the probe from the kept samples, w and xi
standard normal, ``y = sign(z cos gamma + w sin gamma)`` and ``v = y (rho z + b w) + s xi``, the
largest margin kappa is where ``F = alpha E (kappa - v)_+^2 - s^2`` and its derivatives along rho
and b vanish. All is solved in units of s, in which xi has unit variance and integrates in closed
form. The equations are those of the SDC paper's Appendix 4 and regular at gamma = 0, where those
divide by ``sin gamma``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq, root
from scipy.special import ndtr
from scipy.stats import norm

from sdc_ext.errors import InputError

Array: TypeAlias = npt.NDArray[np.float64]

# Where Gaussian weights are cut, and where transitions of a unit Gaussian need nodes.
_FAR = 12.0
_TRANSITIONS = np.array([-8.0, -4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0, 8.0])
_Z_PANELS = np.concatenate([np.arange(0, 3, 0.25), [3, 3.5, 4, 5, 6, 8]])
_W_PANELS = np.array([-8, -6, -4.5, -3, -1.5, 0, 1.5, 3, 4.5, 6, 8.0])
# Six nodes a panel: more change nothing above 1e-9.
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(6)

# Where following a solution in alpha starts, its steps, and the residual of a solution.
_FIRST_ALPHA = 0.2
_STEP, _LEAST_STEP = 1.35, 1.005
_SOLVED = 1e-9


@dataclass(frozen=True)
class Problem:
    """Which samples, and how many.

    Attributes:
        easy: whether those far from the probe's boundary are kept, else those near it.
        f: the kept share, in (0, 1].
        gamma: the angle between probe and teacher in radians.
        alpha: kept samples per dimension.
    """

    easy: bool
    f: float
    gamma: float
    alpha: float

    @property
    def bounds(self) -> tuple[float, float]:
        """Least and largest |z| of the kept samples."""
        if self.easy:
            return float(norm.isf(self.f / 2)), _FAR
        return 0.0, min(float(norm.ppf((1 + self.f) / 2)), _FAR)

    def density(self, z: Array) -> Array:
        """Of |z| among the kept samples."""
        return np.asarray(2 * norm.pdf(z) / self.f)


@dataclass(frozen=True)
class Plane:
    """A student, in units of its length s outside the plane of probe and teacher.

    Attributes:
        probe: its component along the probe, ``rho / s``.
        beside: its component beside it, ``b / s``.
        margin: ``kappa / s``.
    """

    probe: float
    beside: float
    margin: float

    @property
    def unit(self) -> float:
        """s of a student of length 1."""
        return 1 / math.sqrt(1 + self.probe**2 + self.beside**2)

    def turned(self, gamma: float) -> Plane:
        """The same with the part in the plane along a teacher at this angle."""
        length = math.hypot(self.probe, self.beside)
        return replace(self, probe=length * math.cos(gamma), beside=length * math.sin(gamma))


def solve_aligned(problem: Problem) -> Plane:
    """The student for a perfect probe (gamma = 0): one integral over |z|, two nested roots."""
    low, high = problem.bounds

    def moments(p: float, k: float) -> tuple[float, float, float]:
        transitions = (k - _TRANSITIONS) / max(p, 1e-12)
        breaks = np.clip(np.concatenate([_Z_PANELS, transitions]), low, high)
        z, weight = _nodes(breaks, np.array([low]), np.array([high]))
        return _expectations(k - p * z, weight * problem.density(z), z)

    def margin(p: float) -> float:
        guess = p + 1 / math.sqrt(problem.alpha)
        return _increasing_root(lambda k: problem.alpha * moments(p, k)[0] - 1, guess)

    def stationary(p: float) -> float:
        _, pull, slope = moments(p, margin(p))
        return problem.alpha * (pull + p * slope) - p

    far = 1.0
    while stationary(far) > 0:  # it is positive at 0 and negative far out
        far *= 2
    p = float(brentq(stationary, 0.0, far, xtol=1e-13, rtol=1e-13))
    return Plane(p, 0.0, margin(p))


def follow(problem: Problem, start: tuple[float, Plane] | None = None) -> Plane:
    """The student for an imperfect probe, followed from fewer samples on.

    Args:
        problem: what to solve.
        start: a smaller alpha and its solution; left out, few samples and a perfect probe.

    Raises:
        InputError: if it is lost on the way.
    """
    if start is None:
        alpha = min(_FIRST_ALPHA, problem.alpha)
        perfect = replace(problem, alpha=alpha, gamma=0.0)
        found = _refine(replace(problem, alpha=alpha), solve_aligned(perfect).turned(problem.gamma))
    else:
        alpha, found = start
    step = _STEP
    while found is not None and alpha < problem.alpha:
        tried = min(alpha * step, problem.alpha)
        nearer = _refine(replace(problem, alpha=tried), found)
        if nearer is not None:
            alpha, found, step = tried, nearer, min(_STEP, step * step)
        elif step > _LEAST_STEP:
            step = math.sqrt(step)  # the solution turns sharply here
        else:
            found = None
    if found is None:
        raise InputError(
            f"the solution for f = {problem.f:g} and gamma = {math.degrees(problem.gamma):g} "
            f"degrees was lost at alpha {alpha:g}: take a larger f or gamma, or gamma = 0"
        )
    return found


def _refine(problem: Problem, start: Plane) -> Plane | None:
    guess = (start.probe, start.beside, start.margin)
    solution = root(lambda x: _residuals(problem, *x), guess, tol=1e-12)
    # Beside the solution, which is unique, there are stationary points of negative margins.
    if np.abs(solution.fun).max() > _SOLVED or solution.x[2] <= 0:
        return None
    return Plane(*map(float, solution.x))


def _residuals(problem: Problem, p: float, c: float, k: float) -> Array:
    low, high = problem.bounds
    z, z_weight = _nodes(np.clip(_Z_PANELS, low, high), np.array([low]), np.array([high]))
    z, z_weight = z[:, None], (z_weight * problem.density(z))[:, None]
    border = np.clip(-z / math.tan(problem.gamma), -_FAR, _FAR)
    far = np.full_like(border, _FAR)
    total = np.zeros(4)
    for y, low_w, high_w in ((1.0, border, far), (-1.0, -far, border)):
        transitions = (y * (k - _TRANSITIONS) - p * z) / (c or 1e-300)
        inner = np.hstack([transitions, np.broadcast_to(_W_PANELS, (len(z), len(_W_PANELS)))])
        w, w_weight = _nodes(np.clip(inner, low_w, high_w), low_w, high_w)
        weight = w_weight * norm.pdf(w) * z_weight
        q = k - y * (p * z + c * w)
        value, along_probe, slope = _expectations(q, weight, y * z)
        _, beside_it, _ = _expectations(q, weight, y * w)
        total += value, along_probe, beside_it, slope
    value, along_probe, beside_it, slope = problem.alpha * total
    return np.array([value - 1, along_probe + p * slope - p, beside_it + c * slope - c])


def _increasing_root(function: Callable[[float], float], guess: float) -> float:
    low, high = guess - 1, guess + 1
    while function(low) > 0:
        low -= 2 * (guess - low)
    while function(high) < 0:
        high += 2 * (high - guess)
    return float(brentq(function, low, high, xtol=1e-13, rtol=1e-13))


def _nodes(breaks: Array, low: Array, high: Array) -> tuple[Array, Array]:
    """Gauss-Legendre nodes and weights (..., n) in the panels between breaks and two ends."""
    edges = np.sort(np.concatenate([low, breaks, high], axis=-1), axis=-1)
    half = np.diff(edges)[..., None] / 2
    middle = (edges[..., 1:] + edges[..., :-1])[..., None] / 2
    shape = (*breaks.shape[:-1], -1)
    return (middle + half * _NODES).reshape(shape), (half * _WEIGHTS).reshape(shape)


def _expectations(q: Array, weight: Array, direction: Array) -> tuple[float, float, float]:
    """``E (q + xi)_+^2``, ``E (q + xi)_+ direction`` and ``P(q + xi > 0)`` over xi and nodes."""
    below, density = ndtr(q), np.exp(-q * q / 2) / math.sqrt(2 * math.pi)
    square = (1 + q * q) * below + q * density
    pull = (q * below + density) * direction
    value, along, slope = ((weight * what).sum() for what in (square, pull, below))
    return float(value), float(along), float(slope)

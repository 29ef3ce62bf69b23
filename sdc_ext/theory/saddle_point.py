"""Solving the saddle-point equations of a maximum-margin student on selected samples.

In the plane of probe and teacher, the student of length 1 has the component rho along the probe and
the component b perpendicular to the probe. Outside of the plane it has the length s with
``s^2 = 1 - rho^2 - b^2``. A kept sample has the component z along the probe, whose distribution the
selection changes, and components w and xi in the direction of b and outside of the plane, which are
standard normal. Its label is ``y = sign(z cos gamma + w sin gamma)``, and its margin is
``v = y (rho z + b w) + s xi``.

The largest margin kappa is where ``F = alpha E (kappa - v)_+^2 - s^2`` and its derivatives with
respect to rho and b vanish. Everything is solved in units of s, in which xi has unit variance and
can be integrated in closed form.

The equations are equivalent to those of the SDC paper's Appendix 4, but stay regular at gamma = 0,
where the paper's form divides by ``sin gamma``.
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

# Where integrals over Gaussian weights are cut off, and where the transition of a unit Gaussian,
# centred at 0, needs breaks between panels of nodes.
_FAR = 12.0
_TRANSITIONS = np.array([-8.0, -4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0, 8.0])
_Z_PANELS = np.concatenate([np.arange(0, 3, 0.25), [3, 3.5, 4, 5, 6, 8]])
_W_PANELS = np.array([-8, -6, -4.5, -3, -1.5, 0, 1.5, 3, 4.5, 6, 8.0])
# With more than six nodes per panel, results change by less than 1e-9.
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(6)

# Where following a solution in alpha starts, the factors of its largest and smallest steps, and
# the largest residual of an accepted solution.
_FIRST_ALPHA = 0.2
_STEP, _LEAST_STEP = 1.35, 1.005
_SOLVED = 1e-9


@dataclass(frozen=True)
class Problem:
    """The selection of the samples, and their number.

    Attributes:
        easy: Whether the samples far from the probe's boundary are kept, or those near it.
        f: The share of the samples that is kept, in (0, 1].
        gamma: The angle between probe and teacher in radians, in [0, pi/2).
        alpha: The number of kept samples per dimension.
    """

    easy: bool
    f: float
    gamma: float
    alpha: float

    @property
    def bounds(self) -> tuple[float, float]:
        """The smallest and the largest |z| of the kept samples."""
        if self.easy:
            return float(norm.isf(self.f / 2)), _FAR
        return 0.0, min(float(norm.ppf((1 + self.f) / 2)), _FAR)

    def density(self, z: Array) -> Array:
        """Returns the probability density of |z| among the kept samples, within ``bounds``."""
        return np.asarray(2 * norm.pdf(z) / self.f)


@dataclass(frozen=True)
class Plane:
    """A student in units of s, its length outside of the plane of probe and teacher.

    Attributes:
        probe: The component along the probe, ``rho / s``.
        beside: The component perpendicular to the probe, ``b / s``.
        margin: The margin, ``kappa / s``.
    """

    probe: float
    beside: float
    margin: float

    @property
    def unit(self) -> float:
        """The value of s for a student of length 1."""
        return 1 / math.sqrt(1 + self.probe**2 + self.beside**2)

    def turned(self, gamma: float) -> Plane:
        """Returns the student whose part in the plane is turned to a teacher at this angle."""
        length = math.hypot(self.probe, self.beside)
        return replace(self, probe=length * math.cos(gamma), beside=length * math.sin(gamma))


def solve_aligned(problem: Problem) -> Plane:
    """Solves for a perfect probe (gamma = 0): one integral over |z|, two nested root searches."""
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
    while stationary(far) > 0:  # positive at 0 and negative for large p
        far *= 2
    p = float(brentq(stationary, 0.0, far, xtol=1e-13, rtol=1e-13))
    return Plane(p, 0.0, margin(p))


def follow(problem: Problem, start: tuple[float, Plane] | None = None) -> Plane:
    """Solves for an imperfect probe by following the solution from fewer samples to more.

    Args:
        problem: The problem to solve.
        start: A smaller alpha and its solution. By default the path starts at a small alpha, from
            the solution for a perfect probe.

    Raises:
        InputError: If the solution is lost on the way.
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
            step = math.sqrt(step)  # the solution changes quickly here
        else:
            found = None
    if found is None:
        raise InputError(
            f"the solution for f = {problem.f:g} and gamma = {math.degrees(problem.gamma):g} "
            f"degrees was lost at alpha {alpha:g}: use a larger f or gamma, or gamma = 0"
        )
    return found


def _refine(problem: Problem, start: Plane) -> Plane | None:
    guess = (start.probe, start.beside, start.margin)
    solution = root(lambda x: _residuals(problem, *x), guess, tol=1e-12)
    # The solution is unique, but there are other stationary points, with negative margins.
    if np.abs(solution.fun).max() > _SOLVED or solution.x[2] <= 0:
        return None
    return Plane(*map(float, solution.x))


def _residuals(problem: Problem, p: float, c: float, k: float) -> Array:
    """Returns the residuals of the three equations for ``rho / s``, ``b / s`` and ``kappa / s``.

    With ``q = k - y (p z + c w)`` the margin deficit ``kappa - v`` is ``s (q + xi)``, up to the
    sign of xi. Divided by ``s^2`` and ``-2 s``, F and its derivatives with respect to rho and b are

    * ``alpha E (q + xi)_+^2 - 1``,
    * ``alpha (E (q + xi)_+ y z + p P(q + xi > 0)) - p``,
    * ``alpha (E (q + xi)_+ y w + c P(q + xi > 0)) - c``.

    The probabilities come from the derivative of s, which depends on rho and b: it contributes
    ``E (q + xi)_+ xi``, and by Stein's lemma this is ``P(q + xi > 0)``.
    """
    low, high = problem.bounds
    # Flipping the signs of z and w flips y and leaves the margin alone, so z > 0 is enough.
    z, z_weight = _nodes(np.clip(_Z_PANELS, low, high), np.array([low]), np.array([high]))
    z, z_weight = z[:, None], (z_weight * problem.density(z))[:, None]
    # The label jumps at w = -z / tan(gamma), the teacher's boundary. The integral over w is split
    # there, so that each part has a constant y and a smooth integrand, as Gauss-Legendre requires.
    border = np.clip(-z / math.tan(problem.gamma), -_FAR, _FAR)
    far = np.full_like(border, _FAR)
    total = np.zeros(4)
    for y, low_w, high_w in ((1.0, border, far), (-1.0, -far, border)):
        # The integrand bends where q passes 0, over a width of about 1 / c in w. For a large c
        # this is narrower than the fixed panels, so each z gets further breaks around its bend.
        transitions = (y * (k - _TRANSITIONS) - p * z) / (c or 1e-300)
        inner = np.hstack([transitions, np.broadcast_to(_W_PANELS, (len(z), len(_W_PANELS)))])
        # Clipping moves breaks outside of the part to its ends, where their panels have no width.
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
    """Returns Gauss-Legendre nodes and weights (..., n) in the panels between two ends.

    Args:
        breaks: The borders between panels (..., panels - 1), in any order, from low to high.
        low: The lower end (..., 1).
        high: The upper end (..., 1).
    """
    edges = np.sort(np.concatenate([low, breaks, high], axis=-1), axis=-1)
    half = np.diff(edges)[..., None] / 2
    middle = (edges[..., 1:] + edges[..., :-1])[..., None] / 2
    shape = (*breaks.shape[:-1], -1)
    return (middle + half * _NODES).reshape(shape), (half * _WEIGHTS).reshape(shape)


def _expectations(q: Array, weight: Array, direction: Array) -> tuple[float, float, float]:
    """Integrates over xi in closed form and over nodes by their weights.

    Returns:
        ``E (q + xi)_+^2``, ``E (q + xi)_+ direction`` and ``P(q + xi > 0)``.
    """
    below, density = ndtr(q), np.exp(-q * q / 2) / math.sqrt(2 * math.pi)
    square = (1 + q * q) * below + q * density
    pull = (q * below + density) * direction
    value, along, slope = ((weight * what).sum() for what in (square, pull, below))
    return float(value), float(along), float(slope)

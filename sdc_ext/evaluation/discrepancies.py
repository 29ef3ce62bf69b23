"""Discrepancies: how far sets of points lie from real ones, as distributions.

Each takes the real points (n, d) and S sets of m points (S, m, d), and gives S numbers: what does
not depend on the sets is computed once, and all of them are measured by one kernel or scale, which
the real points decide. Every number is a square, as divergences are, but the coverage radius.

They are exact between the two empirical distributions (V-statistics), not estimates between what
the points were drawn from: a distilled set was not drawn from anything, a single point has one, and
none is negative. So they fall as 1/m even for random real points; only the ratio to random real
sets of the same size says whether a set is close.

Reference: Selvan and Chen, "A Discrepancy-Based Perspective on Dataset Condensation" (2025).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from sdc_ext.errors import InputError, check_choice

Discrepancy: TypeAlias = Callable[[Tensor, Tensor], Tensor]

Kernel: TypeAlias = Callable[[Tensor, Tensor], Tensor]


BANDWIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)


# Pairs at once: 32 MiB of float64, so that memory does not grow with the real points.
_PAIRS = 1 << 22

# Real points that the median distance is taken over.
_MEDIAN_OF = 1000

_PROJECTIONS = 200


def mmd_linear(real: Tensor, sets: Tensor) -> Tensor:
    """MMD² under the linear kernel, the loss of distribution matching.

    ``|mean(real) - mean(set)|^2``

    Args:
        real: (n, d).
        sets: (S, m, d).

    Returns:
        (S,) in float64.

    Reference: Zhao and Bilen, "Dataset Condensation with Distribution Matching", Eq. 5.
    """
    return (sets.double().mean(1) - real.double().mean(0)).square().sum(1)


def mmd_gaussian(real: Tensor, sets: Tensor) -> Tensor:
    """MMD² under the mean of Gaussian kernels of five bandwidths.

    ``k(x, y) = mean over s of exp(-|x - y|^2 / (2 s^2 M^2))``, s from 1/4 to 4, M the median
    distance of real points.

    Args:
        real: (n, d).
        sets: (S, m, d).

    Returns:
        (S,) in float64.

    Reference: Gretton et al., "A Kernel Two-Sample Test", Eq. 5.
    """
    scale = median_distance(real)

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        squares = (_distances(x, y) / scale).square_()
        total = torch.zeros_like(squares)
        for s in BANDWIDTHS:
            total += (squares / (-2 * s * s)).exp_()
        return total / len(BANDWIDTHS)

    return _mmd(real, sets, kernel)


def mmd_laplacian(real: Tensor, sets: Tensor) -> Tensor:
    """MMD² under ``k(x, y) = exp(-|x - y| / M)``, M the median distance of real points.

    Args:
        real: (n, d).
        sets: (S, m, d).

    Returns:
        (S,) in float64.

    Reference: geomloss's "laplacian", whose norm is the Euclidean one, too.
    """
    scale = median_distance(real)
    return _mmd(real, sets, lambda x, y: (_distances(x, y) / -scale).exp_())


def mmd_polynomial(real: Tensor, sets: Tensor) -> Tensor:
    """MMD² under ``k(x, y) = (<x, y> / d + 1)^3``, which KID estimates.

    Args:
        real: (n, d).
        sets: (S, m, d).

    Returns:
        (S,) in float64.

    Reference: Bińkowski et al., "Demystifying MMD GANs", Eq. 2; there the unbiased estimate.
    """
    return _mmd(real, sets, lambda x, y: (x @ y.T / x.shape[1] + 1).pow_(3))


def energy_distance(real: Tensor, sets: Tensor) -> Tensor:
    """``2 E|x - y| - E|x - x'| - E|y - y'|``, which is MMD² under ``k(x, y) = -|x - y|``.

    Args:
        real: (n, d).
        sets: (S, m, d).

    Returns:
        (S,) in float64.

    Reference: Székely and Rizzo, "Energy statistics" (2013).
    """
    return _mmd(real, sets, lambda x, y: -_distances(x, y))


def coverage_radius(real: Tensor, sets: Tensor) -> Tensor:
    """``max over x of min over y of |x - y|``: how far a real point is from its nearest one.

    Args:
        real: (n, d).
        sets: (S, m, d).

    Returns:
        (S,) in float64.

    Reference: Sener and Savarese, "Active Learning for CNNs: A Core-Set Approach".
    """
    real, sets = real.double(), sets.double()

    def radius(points: Tensor) -> Tensor:
        nearest = [_distances(part, points).amin(1) for part in _parts(real, points)]
        return torch.cat(nearest).amax()

    return torch.stack([radius(points) for points in sets])


def sliced_wasserstein(real: Tensor, sets: Tensor) -> Tensor:
    """Mean over 200 directions of W2² between the projections, the same directions for all sets.

    Args:
        real: (n, d).
        sets: (S, m, d).

    Returns:
        (S,) in float64.

    Raises:
        InputError: if POT is not installed.

    Reference: Bonneel et al., "Sliced and Radon Wasserstein Barycenters of Measures".
    """
    ot = _pot()
    x, others = _arrays(real, sets)
    directions = ot.sliced.get_random_projections(x.shape[1], _PROJECTIONS, seed=0)
    return torch.tensor(
        [ot.sliced_wasserstein_distance(x, y, projections=directions) ** 2 for y in others],
        dtype=torch.float64,
    )


def wasserstein(real: Tensor, sets: Tensor) -> Tensor:
    """Exact W2²: the least mean squared way of moving one set onto the other.

    Takes time n m (n + m) or so, and memory n m.

    Args:
        real: (n, d).
        sets: (S, m, d).

    Returns:
        (S,) in float64.

    Raises:
        InputError: if POT is not installed.
    """
    ot = _pot()
    x, others = _arrays(real, sets)
    # The default of 100,000 steps ends too early for thousands of points.
    costs = [float(ot.emd2([], [], ot.dist(x, y), numItermax=10_000_000)) for y in others]
    return torch.tensor(costs, dtype=torch.float64)


def sinkhorn(real: Tensor, sets: Tensor, blur: float) -> Tensor:
    """Debiased entropic W2², between W2² (no blur) and MMD² of means (much).

    ``OT_e(x, y) - OT_e(x, x) / 2 - OT_e(y, y) / 2`` with ``e = (blur M)^2``, M the median distance
    of real points, and costs ``|x - y|^2``. Memory is n².

    Args:
        real: (n, d).
        sets: (S, m, d).
        blur: over which share of M mass is smeared, above 0.

    Returns:
        (S,) in float64.

    Raises:
        InputError: if POT is not installed.

    Reference: Feydy et al., "Interpolating between Optimal Transport and MMD using Sinkhorn
    Divergences", Eq. 3.
    """
    ot = _pot()
    strength = (blur * float(median_distance(real))) ** 2
    x, others = _arrays(real, sets)

    def cost(a: Any, b: Any) -> float:
        # The norm of the weights' error: a thousandth of theirs, and less in the value by far.
        exact = {"max_iter": 10_000, "tol": 1e-3 / math.sqrt(len(b))}
        with np.errstate(over="ignore"):  # it also exponentiates potentials, which nobody reads
            return float(ot.solve(ot.dist(a, b), reg=strength, reg_type="KL", **exact).value)

    own = cost(x, x)
    values = [cost(x, y) - (own + cost(y, y)) / 2 for y in others]
    return torch.tensor(values, dtype=torch.float64).clamp(min=0)


def median_distance(points: Tensor) -> Tensor:
    """The median distance between different ones of at most 1000 points (n, d), evenly taken.

    Returns:
        A scalar in float64; 1 where all points are the same, which have no scale.
    """
    some = points[:: -(-len(points) // _MEDIAN_OF)].double()
    row, column = torch.triu_indices(len(some), len(some), 1)
    between = _distances(some, some)[row, column]
    scale = between.median() if len(between) else between.new_zeros(())
    return torch.where(scale > 0, scale, torch.ones_like(scale))


DISCREPANCIES: dict[str, Discrepancy] = {
    "mmd-linear": mmd_linear,
    "mmd-gaussian": mmd_gaussian,
    "mmd-laplacian": mmd_laplacian,
    "mmd-polynomial": mmd_polynomial,
    "energy": energy_distance,
    "coverage": coverage_radius,
}

TRANSPORT: dict[str, Discrepancy] = {
    "sliced": sliced_wasserstein,
    "wasserstein": wasserstein,
    "sinkhorn-0.5": partial(sinkhorn, blur=0.5),
    "sinkhorn-0.1": partial(sinkhorn, blur=0.1),
}


def choose_discrepancies(names: Sequence[str]) -> dict[str, Discrepancy]:
    """Those of these names, in ``DISCREPANCIES`` or, through POT, in ``TRANSPORT``.

    Raises:
        InputError: for a name that is in neither, or if POT is needed and not installed.
    """
    known = {**DISCREPANCIES, **TRANSPORT}
    chosen = {name: known[check_choice("measure", name, known)] for name in names}
    if not TRANSPORT.keys().isdisjoint(chosen):
        _pot()
    return chosen


def _mmd(real: Tensor, sets: Tensor, kernel: Kernel) -> Tensor:
    """Biased MMD² (S,) under a kernel of points (a, d) and (b, d) that gives (a, b)."""
    real, sets = real.double(), sets.double()

    def mean(x: Tensor, y: Tensor) -> Tensor:
        return torch.cat([kernel(part, y).mean(1) for part in _parts(x, y)]).mean()

    own = mean(real, real)
    values = [own + mean(points, points) - 2 * mean(real, points) for points in sets]
    return torch.stack(values).clamp(min=0)  # rounding alone takes them below


def _parts(x: Tensor, y: Tensor) -> Sequence[Tensor]:
    return torch.split(x, max(1, _PAIRS // len(y)))


def _distances(x: Tensor, y: Tensor) -> Tensor:
    # By matrix products: ten times as fast, and in float64 good to 1e-6 where points coincide.
    return torch.cdist(x, y, compute_mode="use_mm_for_euclid_dist")


def _arrays(real: Tensor, sets: Tensor) -> tuple[Any, Any]:
    return real.double().cpu().numpy(), sets.double().cpu().numpy()


def _pot() -> Any:
    try:
        import ot
    except ImportError:
        raise InputError(
            'optimal transport needs POT: pip install "sdc-ext[ot]", or choose from '
            f"{', '.join(DISCREPANCIES)}"
        ) from None
    return ot

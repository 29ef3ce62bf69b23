"""Discrepancies between the distribution of a set of points and that of real points.

Every discrepancy has the same arguments and the same result:

* ``real``: The real points (n, d).
* ``sets``: S sets of m points each (S, m, d).
* It returns one discrepancy per set (S,) in float64. All are squares, as divergences are, except
  the coverage radius, which is a distance.

Terms that depend on the real points alone are computed once for all sets of a call. The real points
also determine the kernel or the scale, so the values of all sets are comparable.

The values are exact for the two empirical distributions (V-statistics), and are no estimates for
underlying distributions: a distilled set was not drawn from one, and the value should exist for a
single point and never be negative. As a consequence they fall as 1/m even for random real points.
Only the ratio to random real sets of the same size says whether a set is close.

Reference: Selvan and Chen, "A Discrepancy-Based Perspective on Dataset Condensation" (2025).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from sdc_ext.errors import check_choice
from sdc_ext.matching.discrepancies import (
    PROJECTIONS,
    Kernel,
    energy_kernel,
    entropic_cost,
    gaussian_kernel,
    laplacian_kernel,
    mean_kernel,
    median_distance,
    parts_of,
    polynomial_kernel,
    quick_distances,
    squared_mmd,
    transport_library,
)

Discrepancy: TypeAlias = Callable[[Tensor, Tensor], Tensor]


def mmd_linear(real: Tensor, sets: Tensor) -> Tensor:
    """Returns MMD² under the linear kernel, which is the loss of distribution matching.

    ``|mean(real) - mean(set)|^2``

    Reference: Zhao and Bilen, "Dataset Condensation with Distribution Matching", Eq. 5.
    """
    return (sets.double().mean(1) - real.double().mean(0)).square().sum(1)


def mmd_gaussian(real: Tensor, sets: Tensor) -> Tensor:
    """Returns MMD² under the mean of five Gaussian kernels of different bandwidths.

    ``k(x, y) = mean over s of exp(-|x - y|^2 / (2 s^2 M^2))``, where s is 1/4, 1/2, 1, 2 and 4,
    and M is the median distance between real points.

    Reference: Gretton et al., "A Kernel Two-Sample Test", Eq. 5.
    """
    return _mmd(real, sets, gaussian_kernel(median_distance(real), quick_distances))


def mmd_laplacian(real: Tensor, sets: Tensor) -> Tensor:
    """Returns MMD² under the Laplacian kernel with the Euclidean norm.

    ``k(x, y) = exp(-|x - y| / M)``, where M is the median distance between real points.

    Reference: The "laplacian" of geomloss, which also uses the Euclidean norm.
    """
    return _mmd(real, sets, laplacian_kernel(median_distance(real), quick_distances))


def mmd_polynomial(real: Tensor, sets: Tensor) -> Tensor:
    """Returns MMD² under the polynomial kernel of KID.

    ``k(x, y) = (<x, y> / d + 1)^3``

    Reference: Bińkowski et al., "Demystifying MMD GANs" (2018), for the kernel; the estimate
        of its Eq. 2 is the unbiased one.
    """
    return _mmd(real, sets, polynomial_kernel)


def energy_distance(real: Tensor, sets: Tensor) -> Tensor:
    """Returns the energy distance, which is MMD² under ``k(x, y) = -|x - y|``.

    ``2 E|x - y| - E|x - x'| - E|y - y'|``

    Reference: Székely and Rizzo, "Energy statistics" (2013).
    """
    return _mmd(real, sets, energy_kernel(quick_distances))


def coverage_radius(real: Tensor, sets: Tensor) -> Tensor:
    """Returns the coverage radius: the largest distance of a real point x to its nearest point y.

    ``max over x of min over y of |x - y|``

    Reference: Sener and Savarese, "Active Learning for CNNs: A Core-Set Approach".
    """
    real, sets = real.double(), sets.double()

    def radius(points: Tensor) -> Tensor:
        nearest = [quick_distances(part, points).amin(1) for part in parts_of(real, points)]
        return torch.cat(nearest).amax()

    return torch.stack([radius(points) for points in sets])


def sliced_wasserstein(real: Tensor, sets: Tensor) -> Tensor:
    """Returns the mean W2² between projections onto 200 directions, the same for all sets.

    Raises:
        InputError: If POT is not installed.

    Reference: Bonneel et al., "Sliced and Radon Wasserstein Barycenters of Measures".
    """
    ot = transport_library()
    x, others = _arrays(real, sets)
    directions = ot.sliced.get_random_projections(x.shape[1], PROJECTIONS, seed=0)
    return torch.tensor(
        [ot.sliced_wasserstein_distance(x, y, projections=directions) ** 2 for y in others],
        dtype=torch.float64,
    )


def wasserstein(real: Tensor, sets: Tensor) -> Tensor:
    """Returns the exact W2²: the least mean squared distance of moving one set onto the other.

    The time grows roughly as n m (n + m), and the memory as n m.

    Raises:
        InputError: If POT is not installed.
    """
    ot = transport_library()
    x, others = _arrays(real, sets)
    # The default of 100,000 steps is too few for thousands of points.
    costs = [float(ot.emd2([], [], ot.dist(x, y), numItermax=10_000_000)) for y in others]
    return torch.tensor(costs, dtype=torch.float64)


def sinkhorn(real: Tensor, sets: Tensor, blur: float) -> Tensor:
    """Returns the Sinkhorn divergence, which is a debiased entropic W2².

    ``OT_e(x, y) - OT_e(x, x) / 2 - OT_e(y, y) / 2`` with ``e = (blur M)^2`` and costs
    ``|x - y|^2``, where M is the median distance between real points. It tends to W2² for a small
    blur and to the linear MMD² for a large one. The memory grows as n².

    Args:
        real: The real points (n, d).
        sets: The sets of points (S, m, d).
        blur: The distance over which mass is smeared, as a fraction of M, above 0.

    Raises:
        InputError: If POT is not installed.

    Reference: Feydy et al., "Interpolating between Optimal Transport and MMD using Sinkhorn
    Divergences", Eq. 3.
    """
    strength = (blur * float(median_distance(real))) ** 2
    x, others = _arrays(real, sets)

    def cost(a: Any, b: Any) -> float:
        with np.errstate(over="ignore"):  # POT also exponentiates potentials that are not used here
            return float(entropic_cost(a, b, strength))

    own = cost(x, x)
    values = [cost(x, y) - (own + cost(y, y)) / 2 for y in others]
    return torch.tensor(values, dtype=torch.float64).clamp(min=0)


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
    """Returns discrepancies by their names.

    Each maps real points (n, d) and S sets of m points (S, m, d) to one discrepancy per set (S,)
    in float64.

    Args:
        names: Any of ``"mmd-linear"``, ``"mmd-gaussian"``, ``"mmd-laplacian"``,
            ``"mmd-polynomial"``, ``"energy"``, ``"coverage"`` and, if POT is installed,
            ``"sliced"``, ``"wasserstein"``, ``"sinkhorn-0.5"``, ``"sinkhorn-0.1"``.

    Raises:
        InputError: If a name is unknown, or needs POT and it is not installed.

    Reference: Selvan and Chen, "A Discrepancy-Based Perspective on Dataset Condensation" (2025).
    """
    known = {**DISCREPANCIES, **TRANSPORT}
    chosen = {name: known[check_choice("measure", name, known)] for name in names}
    if not TRANSPORT.keys().isdisjoint(chosen):
        transport_library()
    return chosen


def _mmd(real: Tensor, sets: Tensor, kernel: Kernel) -> Tensor:
    """Returns the biased MMD² (S,) under a kernel that maps points (a, d) and (b, d) to (a, b)."""
    real, sets = real.double(), sets.double()
    own = mean_kernel(kernel, real, real)
    values = [squared_mmd(points, real, kernel, own) for points in sets]
    return torch.stack(values).clamp(min=0)  # only rounding makes them negative


def _arrays(real: Tensor, sets: Tensor) -> tuple[Any, Any]:
    return real.double().cpu().numpy(), sets.double().cpu().numpy()

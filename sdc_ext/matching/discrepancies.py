"""Discrepancies between two sets of features that can be differentiated: losses of matching.

A loss of `LOSSES` maps the synthetic features (m, d) and the real features (n, d) of one class to a
scalar, in their floating-point type. Its gradient is finite where points coincide. The real
features determine the kernel or the scale, and no gradient flows into that choice.

Every loss is in the unit of a squared distance, as the linear MMD² of distribution matching is, so
that one learning rate of the images serves all of them: a measure without a unit is multiplied by
M², where M is the median distance between real features.

``sdc_ext.evaluation.discrepancies`` measures with the same kernels, without the factors.

Reference: Selvan and Chen, "A Discrepancy-Based Perspective on Dataset Condensation" (2025).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from sdc_ext.errors import InputError

Kernel: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Maps points (a, d) and (b, d) to a matrix (a, b)."""

FeatureLoss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Maps synthetic features (m, d) and real features (n, d) to a scalar."""

DiscrepancyName: TypeAlias = Literal[
    "mmd-linear",
    "mmd-gaussian",
    "mmd-laplacian",
    "mmd-polynomial",
    "energy",
    "sliced",
    "sinkhorn",
]

BANDWIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)

PROJECTIONS = 200

# How many pairs of points are compared at once (32 MiB of float64), which bounds the memory.
PAIRS = 1 << 22

# How many real points at most the median distance is taken over.
_MEDIAN_OF = 1000

# The tolerance of Sinkhorn's algorithm bounds the norm of the error of the weights, relative to
# their own. A thousandth leaves a far smaller error in the value.
TOLERANCE = 1e-3

# The blur of the Sinkhorn loss, as a fraction of the median distance.
_BLUR = 0.5


def parts_of(x: Tensor, y: Tensor) -> Sequence[Tensor]:
    """Splits points x so that each part has at most ``PAIRS`` pairs with the points y."""
    return torch.split(x, max(1, PAIRS // len(y)))


def quick_distances(x: Tensor, y: Tensor) -> Tensor:
    """Returns all distances (a, b) by matrix products, for values in float64."""
    # Matrix products are ten times as fast and, in float64, err by 1e-6 where points coincide.
    return torch.cdist(x, y, compute_mode="use_mm_for_euclid_dist")


def exact_distances(x: Tensor, y: Tensor) -> Tensor:
    """Returns all distances (a, b), whose gradient is 0 where points coincide."""
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


def gaussian_kernel(scale: Tensor, distances: Kernel) -> Kernel:
    """Returns the mean of five Gaussian kernels whose bandwidths are multiples of a scale.

    ``k(x, y) = mean over s of exp(-|x - y|^2 / (2 s^2 M^2))``, where s is 1/4, 1/2, 1, 2 and 4.
    """

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        squares = (distances(x, y) / scale).square()
        total = torch.zeros_like(squares)
        for s in BANDWIDTHS:
            total = total + (squares / (-2 * s * s)).exp()
        return total / len(BANDWIDTHS)

    return kernel


def laplacian_kernel(scale: Tensor, distances: Kernel) -> Kernel:
    """Returns ``k(x, y) = exp(-|x - y| / M)``, the Laplacian kernel with the Euclidean norm."""
    return lambda x, y: (distances(x, y) / -scale).exp()


def polynomial_kernel(x: Tensor, y: Tensor) -> Tensor:
    """Returns ``k(x, y) = (<x, y> / d + 1)^3``, the kernel of KID."""
    return (x @ y.T / x.shape[1] + 1).pow(3)


def energy_kernel(distances: Kernel) -> Kernel:
    """Returns ``k(x, y) = -|x - y|``, under which MMD² is the energy distance."""
    return lambda x, y: -distances(x, y)


def mean_kernel(kernel: Kernel, x: Tensor, y: Tensor) -> Tensor:
    """Returns the mean of a kernel over all pairs of points (a, d) and (b, d), a scalar."""
    return torch.cat([kernel(part, y).mean(1) for part in parts_of(x, y)]).mean()


def squared_mmd(syn: Tensor, real: Tensor, kernel: Kernel, of_real: Tensor | None = None) -> Tensor:
    """Returns the biased MMD² between points (m, d) and (n, d), a scalar.

    ``E k(x, x') + E k(y, y') - 2 E k(x, y)``; rounding may make it slightly negative.

    Args:
        syn: The points y (m, d).
        real: The points x (n, d).
        kernel: The kernel k.
        of_real: The first term, if it is known already.

    Reference: Gretton et al., "A Kernel Two-Sample Test", Eq. 5.
    """
    own = mean_kernel(kernel, real, real) if of_real is None else of_real
    return own + mean_kernel(kernel, syn, syn) - 2 * mean_kernel(kernel, real, syn)


@torch.no_grad()
def median_distance(points: Tensor) -> Tensor:
    """Returns the median distance between pairs of at most 1000 evenly spaced points of (n, d).

    Returns:
        A scalar in float64; 1 if all points coincide and have no scale.
    """
    some = points[:: -(-len(points) // _MEDIAN_OF)].double()
    row, column = torch.triu_indices(len(some), len(some), 1)
    between = quick_distances(some, some)[row, column]
    scale = between.median() if len(between) else between.new_zeros(())
    return torch.where(scale > 0, scale, torch.ones_like(scale))


def gaussian_loss(syn: Tensor, real: Tensor) -> Tensor:
    """Returns M² times MMD² under the mean of five Gaussian kernels; see ``gaussian_kernel``."""
    scale = median_distance(real).to(real)
    return scale**2 * squared_mmd(syn, real, gaussian_kernel(scale, exact_distances))


def laplacian_loss(syn: Tensor, real: Tensor) -> Tensor:
    """Returns M² times MMD² under the Laplacian kernel; see ``laplacian_kernel``."""
    scale = median_distance(real).to(real)
    return scale**2 * squared_mmd(syn, real, laplacian_kernel(scale, exact_distances))


def polynomial_loss(syn: Tensor, real: Tensor) -> Tensor:
    """Returns d/3 times MMD² under KID's kernel, whose first-order term is the linear MMD²."""
    return real.shape[1] / 3 * squared_mmd(syn, real, polynomial_kernel)


def energy_loss(syn: Tensor, real: Tensor) -> Tensor:
    """Returns M times the energy distance ``2 E|x - y| - E|x - x'| - E|y - y'|``."""
    return median_distance(real).to(real) * squared_mmd(syn, real, energy_kernel(exact_distances))


def sliced_loss(syn: Tensor, real: Tensor) -> Tensor:
    """Returns d times the mean W2² between projections onto 200 random directions.

    A direction sees 1/d of a squared length on average. Directions are drawn from torch's global
    generator at every call, as the gradient of a fixed choice ignores all other directions.

    Raises:
        InputError: If POT is not installed.

    Reference: Bonneel et al., "Sliced and Radon Wasserstein Barycenters of Measures".
    """
    ot = transport_library()
    directions = torch.randn(real.shape[1], PROJECTIONS).to(real)
    directions = directions / directions.norm(dim=0)
    # POT's sliced distance ends in a root, whose gradient is not finite where the sets coincide.
    squares: Tensor = ot.wasserstein_1d(real @ directions, syn @ directions, p=2)
    return real.shape[1] * squares.mean()


def sinkhorn_loss(syn: Tensor, real: Tensor) -> Tensor:
    """Returns the Sinkhorn divergence with a blur of half the median distance.

    ``OT_e(x, y) - OT_e(x, x) / 2 - OT_e(y, y) / 2`` with ``e = (M / 2)^2``; see ``entropic_cost``.

    Raises:
        InputError: If POT is not installed.

    Reference: Feydy et al., "Interpolating between Optimal Transport and MMD using Sinkhorn
    Divergences", Eq. 3.
    """
    strength = (_BLUR * float(median_distance(real))) ** 2
    own = entropic_cost(real, real, strength) + entropic_cost(syn, syn, strength)
    divergence: Tensor = entropic_cost(real, syn, strength) - own / 2
    return divergence


def entropic_cost(x: Any, y: Any, strength: float) -> Any:
    """Returns the entropic cost of moving points x (n, d) onto y (m, d), a scalar.

    The cost of a move is ``|x - y|^2``. It is differentiable by the envelope theorem.

    Args:
        x: The points, as tensors or as arrays.
        y: As x.
        strength: The strength e of the entropy, above 0.

    Raises:
        InputError: If POT is not installed.
    """
    ot = transport_library()
    exact = {"max_iter": 10_000, "tol": TOLERANCE / math.sqrt(len(y)), "grad": "envelope"}
    return ot.solve(ot.dist(x, y), reg=strength, reg_type="KL", **exact).value


LOSSES: dict[str, FeatureLoss] = {
    "mmd-gaussian": gaussian_loss,
    "mmd-laplacian": laplacian_loss,
    "mmd-polynomial": polynomial_loss,
    "energy": energy_loss,
    "sliced": sliced_loss,
    "sinkhorn": sinkhorn_loss,
}


def summed_over_classes(name: str) -> Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor]:
    """Returns the sum of a loss of ``LOSSES`` over classes, by its name.

    It maps one tensor (m, d) of synthetic and one (n, d) of real features per class to a scalar.

    Raises:
        InputError: If the loss needs POT and it is not installed.

    Reference: DM, Eq. 6, generalised.
    """
    loss = LOSSES[name]
    if name in NEED_TRANSPORT:
        transport_library()

    def summed(syn: Sequence[Tensor], real: Sequence[Tensor]) -> Tensor:
        return torch.stack([loss(s, r) for s, r in zip(syn, real, strict=True)]).sum()

    return summed


NEED_TRANSPORT = ("sliced", "sinkhorn")


def transport_library() -> Any:
    """Returns POT.

    Raises:
        InputError: If it is not installed.
    """
    try:
        import ot
    except ImportError:
        raise InputError(
            'optimal transport needs POT: pip install "sdc-ext[ot]", or choose mmd-linear, '
            "mmd-gaussian, mmd-laplacian, mmd-polynomial or energy"
        ) from None
    return ot

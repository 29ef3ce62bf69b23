"""Distances between gradients, and between parameters: the matching losses of the field."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from sdc_ext.errors import check_choice

GradientDistance: TypeAlias = Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor]


# Added to the product of norms, so that a zero gradient has a distance of exactly 1.
_EPS = 1e-6


def layerwise_cosine(gw_syn: Sequence[Tensor], gw_real: Sequence[Tensor]) -> Tensor:
    """Sum over weight tensors and output rows of ``1 - <r, s> / (|r| |s| + 1e-6)``.

    One-dimensional tensors (biases and norm parameters) are left out, as in the original.

    Args:
        gw_syn: synthetic gradients, one tensor of shape (out, ...) a parameter.
        gw_real: real gradients of the same shapes.

    Returns:
        A scalar tensor.

    Reference: Zhao et al., "Dataset Condensation with Gradient Matching", Eq. 8 and 9; called
    "ours" in its code.
    """
    distances = [
        _cosine(syn.flatten(1), real.flatten(1)).sum()
        for syn, real in zip(gw_syn, gw_real, strict=True)
        if syn.ndim > 1
    ]
    return torch.stack(distances).sum()


def squared_error(gw_syn: Sequence[Tensor], gw_real: Sequence[Tensor]) -> Tensor:
    """Sum of squared differences over all parameters ("mse" in the originals, though a sum)."""
    return (_flat(gw_syn) - _flat(gw_real)).square().sum()


def cosine(gw_syn: Sequence[Tensor], gw_real: Sequence[Tensor]) -> Tensor:
    """``1 - <r, s> / (|r| |s| + 1e-6)`` of the two gradients as one vector each ("cos")."""
    return _cosine(_flat(gw_syn), _flat(gw_real))


def parameter_distance(params: Tensor, target: Tensor, start: Tensor) -> Tensor:
    """``||theta_N - theta_target||^2 / ||theta_start - theta_target||^2``, a scalar.

    Args:
        params: the student's parameters (P,) after the inner loop.
        target: the expert's (P,), some epochs later.
        start: where both began (P,).

    Reference: Cazenavette et al., "Dataset Distillation by Matching Training Trajectories",
    Eq. 2; the SDC paper, Eq. 4.
    """
    return (params - target).square().sum() / (start - target).square().sum()


def mean_feature_distance(syn: Tensor, real: Tensor) -> Tensor:
    """``sum_c ||real_c - syn_c||^2``, a scalar.

    Args:
        syn: a class's mean features of synthetic images a row (classes, D).
        real: of real images.

    Reference: Zhao and Bilen, "Dataset Condensation with Distribution Matching", Eq. 6.
    """
    return (real - syn).square().sum()


DISTANCES: dict[str, GradientDistance] = {
    "ours": layerwise_cosine,
    "mse": squared_error,
    "cos": cosine,
}


def gradient_distance(dis_metric: str) -> GradientDistance:
    """The distance of that name, under the originals' names.

    Raises:
        InputError: for a name that is not in ``DISTANCES``.
    """
    return DISTANCES[check_choice("dis_metric", dis_metric, DISTANCES)]


def _cosine(syn: Tensor, real: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(syn, dim=-1) * torch.linalg.vector_norm(real, dim=-1)
    return 1 - (syn * real).sum(-1) / (norms + _EPS)


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([t.flatten() for t in tensors])

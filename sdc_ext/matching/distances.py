"""Implements the matching losses: distances between gradients, parameters and features."""

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
    """Returns the sum of ``1 - <r, s> / (|r| |s| + 1e-6)`` over all rows of all weight tensors.

    A row is the gradient r (real) or s (synthetic) of the weights of one output unit.
    One-dimensional tensors (biases and norm parameters) are left out, as in DC's code.

    Args:
        gw_syn: Synthetic gradients, one tensor (out, ...) per parameter.
        gw_real: Real gradients of the same shapes.

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
    """Returns the sum of squared differences over all parameters, a scalar tensor.

    Args:
        gw_syn: Synthetic gradients, one tensor per parameter.
        gw_real: Real gradients of the same shapes.

    Reference: called "mse" in DC's code, although it is a sum.
    """
    return (_flat(gw_syn) - _flat(gw_real)).square().sum()


def cosine(gw_syn: Sequence[Tensor], gw_real: Sequence[Tensor]) -> Tensor:
    """Returns ``1 - <r, s> / (|r| |s| + 1e-6)`` of the whole gradients, a scalar tensor in [0, 2].

    Args:
        gw_syn: Synthetic gradients, one tensor per parameter; s is their concatenation.
        gw_real: Real gradients of the same shapes; r is their concatenation.

    Reference: called "cos" in DC's code.
    """
    return _cosine(_flat(gw_syn), _flat(gw_real))


def parameter_distance(params: Tensor, target: Tensor, start: Tensor) -> Tensor:
    """Returns ``||theta_N - theta_target||^2 / ||theta_start - theta_target||^2``, a scalar tensor.

    Args:
        params: The student's parameters theta_N (P,) after the inner loop.
        target: The expert's parameters (P,) some epochs after the start.
        start: The expert's parameters (P,) from which the student started.

    Reference: Cazenavette et al., "Dataset Distillation by Matching Training Trajectories",
    Eq. 2; the SDC paper, Eq. 4.
    """
    return (params - target).square().sum() / (start - target).square().sum()


def mean_feature_distance(syn: Tensor, real: Tensor) -> Tensor:
    """Returns ``sum_c ||real_c - syn_c||^2`` over classes c, a scalar tensor.

    Args:
        syn: Mean features of the synthetic images, one row per class (classes, D).
        real: Mean features of the real images (classes, D).

    Reference: Zhao and Bilen, "Dataset Condensation with Distribution Matching", Eq. 6.
    """
    return (real - syn).square().sum()


DISTANCES: dict[str, GradientDistance] = {
    "ours": layerwise_cosine,
    "mse": squared_error,
    "cos": cosine,
}


def gradient_distance(dis_metric: str) -> GradientDistance:
    """Returns the distance that DC's code calls by this name.

    Raises:
        InputError: If ``DISTANCES`` does not have the name.
    """
    return DISTANCES[check_choice("dis_metric", dis_metric, DISTANCES)]


def _cosine(syn: Tensor, real: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(syn, dim=-1) * torch.linalg.vector_norm(real, dim=-1)
    return 1 - (syn * real).sum(-1) / (norms + _EPS)


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([t.flatten() for t in tensors])

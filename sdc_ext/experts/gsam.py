"""Computes GSAM's descent direction, which leads FTD's and DATM's experts to flat minima."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_EPS = 1e-12


def gsam_direction(
    gradient: Callable[[Tensor], Tensor], theta: Tensor, *, rho: float, alpha: float
) -> Tensor:
    """Returns the direction along which GSAM descends, with the adaptive perturbation.

    ``h = g(theta + e)`` with ``e = rho * theta^2 * g / || |theta| * g ||``, and
    ``direction = h - alpha * (g - (<g, h> / ||h||^2) h)``: the perturbed gradient, less alpha
    times the component of the gradient that is orthogonal to it. Parameters that are exactly
    zero are not perturbed.

    Args:
        gradient: Maps parameters (P,) to the gradient (P,) of one batch's mean loss.
        theta: The parameters (P,).
        rho: The size of the perturbation, above 0.
        alpha: The weight of the orthogonal component, at least 0.

    Returns:
        The direction (P,). It costs two gradients.

    Reference: Zhuang et al., "Surrogate Gap Minimization Improves Sharpness-Aware Training",
    Algorithm 1; Du et al., "Minimizing the Accumulated Trajectory Error to Improve Dataset
    Distillation" (FTD), with the constants of its code.
    """
    g = gradient(theta)
    scale = rho / (torch.linalg.vector_norm(theta * g) + _EPS)
    h = gradient(theta + theta.square() * g * scale)
    g_norm, h_norm = torch.linalg.vector_norm(g), torch.linalg.vector_norm(h)
    cosine = torch.dot(g, h) / (g_norm * h_norm + _EPS)
    orthogonal = g - cosine * g_norm * h / (h_norm + _EPS)
    direction: Tensor = h - alpha * orthogonal
    return direction

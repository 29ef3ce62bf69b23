"""GSAM: the descent direction that leads FTD's and DATM's experts to flat minima."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_EPS = 1e-12


def gsam_direction(
    gradient: Callable[[Tensor], Tensor], theta: Tensor, *, rho: float, alpha: float
) -> Tensor:
    """What to descend along instead of the gradient, with the adaptive perturbation.

    ``h = g(theta + e)`` with ``e = rho * theta^2 * g / || |theta| * g ||``, and
    ``direction = h - alpha * (g - (<g, h> / ||h||^2) h)``: the perturbed gradient, less alpha
    times the part of the gradient that is orthogonal to it. Parameters that are exactly zero are
    not perturbed.

    Args:
        gradient: of the mean loss of one batch, from (P,) to (P,).
        theta: the parameters (P,).
        rho: size of the perturbation.
        alpha: weight of the orthogonal part.

    Returns:
        (P,). It costs two gradients.

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

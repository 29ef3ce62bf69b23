"""Adversarial examples within a maximum change of each pixel: FGSM and PGD."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sdc_ext.augment.base import Normalisation

_STEPS = 10

# PGD's step as a part of epsilon: ten of them cross the ball more than once.
_STEP = 0.25


def fgsm(
    network: nn.Module, pixels: Tensor, labels: Tensor, epsilon: float, normalisation: Normalisation
) -> Tensor:
    """Moves every pixel by ``epsilon`` in the direction in which the loss rises.

    Args:
        network: The network to deceive, in evaluation mode.
        pixels: Images as pixels in [0, 1] (B, C, H, W).
        labels: Their labels (B,).
        epsilon: The change of a pixel, above 0.
        normalisation: Normalises pixels for the network.

    Returns:
        Pixels in [0, 1] (B, C, H, W).

    Reference: Goodfellow et al., "Explaining and Harnessing Adversarial Examples" (ICLR 2015).
    """
    return _step(network, pixels, labels, epsilon, normalisation).clamp(0, 1)


def pgd(
    network: nn.Module, pixels: Tensor, labels: Tensor, epsilon: float, normalisation: Normalisation
) -> Tensor:
    """Ascends the loss in ten steps from a random start, within ``epsilon`` of every pixel.

    The arguments and the result are those of ``fgsm``. A step is a quarter of epsilon. The start
    comes from torch's global generator.

    Reference: Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks" (ICLR
    2018).
    """
    start = (2 * torch.rand(pixels.shape) - 1).to(pixels)
    attacked = (pixels + epsilon * start).clamp(0, 1)
    for _ in range(_STEPS):
        attacked = _step(network, attacked, labels, _STEP * epsilon, normalisation)
        attacked = (pixels + (attacked - pixels).clamp(-epsilon, epsilon)).clamp(0, 1)
    return attacked


ATTACKS = {"fgsm": fgsm, "pgd": pgd}


def _step(
    network: nn.Module, pixels: Tensor, labels: Tensor, size: float, normalisation: Normalisation
) -> Tensor:
    leaf = pixels.detach().clone().requires_grad_()
    loss = F.cross_entropy(network(normalisation.normalize(leaf)), labels, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, leaf)
    return pixels + size * gradient.sign()

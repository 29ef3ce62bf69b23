"""The initialisation of DATM: images that experts classify correctly, and their soft labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from sdc_ext.networks.chunks import default_chunk_size
from sdc_ext.networks.functional import FunctionalNetwork

# The number of real images that an expert classifies at once.
_AT_ONCE = 64

# The most images that an expert gives logits for at once; on CPUs the default is fewer.
_MOST_AT_ONCE = 256


def first_correct(
    predict: Iterable[Callable[[Tensor], Tensor]], index: Tensor, label: int, n: int
) -> Tensor:
    """Chooses ``n`` images of a class that the first expert classifies correctly.

    If there are fewer than ``n``, images that the next expert classifies correctly follow, and so
    on. If all experts together leave some to be chosen, any other images fill up.

    Args:
        predict: One function per expert that maps positions (m,) to predicted classes (m,).
        index: Positions of the class's images (M,) with M >= n, in random order.
        label: The index of the class.
        n: The number of images to choose.

    Returns:
        Positions (n,), all different.
    """
    chosen = index[:0]
    for classify in predict:
        for rest in torch.split(index[~torch.isin(index, chosen)], _AT_ONCE):
            right = rest[(classify(rest) == label).to(rest.device)]
            chosen = torch.cat([chosen, right])[:n]
            if len(chosen) == n:
                return chosen
    rest = index[~torch.isin(index, chosen)]
    return torch.cat([chosen, rest])[:n]


def mean_correct_logits(logits: Tensor, labels: Tensor) -> Tensor:
    """Returns soft labels: the mean logits of the experts that classify an image correctly.

    An image that no expert classifies correctly, for which DATM's script computes NaN, gets the
    mean logits of all experts with the logits of the true and the predicted class exchanged.

    Args:
        logits: The experts' logits (experts, n, classes).
        labels: The true classes (n,) int64.

    Returns:
        Logits (n, classes).

    Reference: Guo et al., "Towards Lossless Dataset Distillation via Difficulty-Aligned
    Trajectory Matching", Section 3.3, and its code.
    """
    correct = (logits.argmax(-1) == labels)[..., None].to(logits.dtype)
    count = correct.sum(0)
    mean = (logits * correct).sum(0) / count.clamp(min=1)
    if bool((count > 0).all()):
        return mean
    fallback = logits.mean(0)
    rows = torch.arange(len(labels), device=labels.device)
    predicted = fallback.argmax(-1)
    swapped = fallback.clone()
    swapped[rows, labels] = fallback[rows, predicted]
    swapped[rows, predicted] = fallback[rows, labels]
    return torch.where(count > 0, mean, swapped)


def expert_logits(student: FunctionalNetwork, theta: Tensor, images: Tensor) -> Tensor:
    """Returns the logits (N, classes) of the network with an expert's parameters ``theta`` (P,)."""
    parts = torch.split(images, default_chunk_size(images[:_MOST_AT_ONCE]))
    with torch.no_grad():
        return torch.cat([student(theta, part) for part in parts])

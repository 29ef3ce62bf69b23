"""DATM's start: images that experts classify correctly, and soft labels from these experts."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

# Real images that an expert classifies at once.
_AT_ONCE = 64


def first_correct(
    predict: Iterable[Callable[[Tensor], Tensor]], index: Tensor, label: int, n: int
) -> Tensor:
    """``n`` images of a class, those first that the first expert classifies correctly.

    Where it gets too few right the next expert is asked, and where all do, any images follow.

    Args:
        predict: one function an expert, from positions (m,) to predicted classes (m,).
        index: positions of the class's images (m,), in random order; at least ``n``.
        label: the class.
        n: how many.

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
    """Soft labels: the mean logits of the experts that classify an image correctly.

    An image that no expert gets right (NaN in the original) has the mean logits of all experts,
    with those of the true and of the predicted class exchanged.

    Args:
        logits: (experts, n, classes).
        labels: (n,) int64.

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

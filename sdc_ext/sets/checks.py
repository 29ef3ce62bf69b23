"""Checks the tensors of distilled sets where they are loaded."""

from __future__ import annotations

import torch
from torch import Tensor

from sdc_ext.errors import InputError
from sdc_ext.sets.info import SetInfo

# The largest difference from 1 of the sum of an image's soft labels.
_ROUNDING = 1e-3


def check_tensors(images: Tensor, labels: Tensor, info: SetInfo, name: str) -> None:
    """Checks the images and labels of a set that a file contains.

    Args:
        images: What should be synthetic images (N, C, H, W), floating point.
        labels: What should be labels (N,) int64, or (N, classes) probabilities.
        info: The description of the set.
        name: What messages call the file.

    Raises:
        InputError: If they are of other shapes or types, are not finite, or do not fit the
            description.
    """
    channels, classes, count = len(info.mean), len(info.classes), len(images)
    if images.ndim != 4 or images.shape[1] != channels or not images.is_floating_point():
        problem = f"images have the shape {tuple(images.shape)}, not (N, {channels}, H, W)"
    elif images.numel() == 0:
        problem = "there are no images"
    elif not bool(images.isfinite().all()):
        problem = "images are not finite"
    elif labels.shape not in ((count,), (count, classes)):
        problem = f"labels have the shape {tuple(labels.shape)}, for {count} images"
    elif labels.ndim == 1:
        problem = _of_hard_labels(labels, classes)
    else:
        problem = _of_soft_labels(labels)
    if problem:
        raise InputError(f"{name} is damaged ({problem}): pass another copy of it")


def _of_hard_labels(labels: Tensor, classes: int) -> str:
    if labels.dtype != torch.int64:
        return f"labels are of the type {labels.dtype}, not int64"
    if not bool(((labels >= 0) & (labels < classes)).all()):
        return f"labels are not from 0 to {classes - 1}"
    return ""


def _of_soft_labels(labels: Tensor) -> str:
    off = (labels.double().sum(1) - 1).abs().max().item() if labels.is_floating_point() else 1.0
    # The difference is NaN if a label is.
    if not off <= _ROUNDING or bool((labels < 0).any()):
        return "soft labels are not probabilities"
    return ""

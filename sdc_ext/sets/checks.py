"""Checks the tensors of distilled sets where they are loaded."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from sdc_ext._reading import is_plain
from sdc_ext._text import visible
from sdc_ext._words import number_of
from sdc_ext.errors import InputError
from sdc_ext.sets.decoding import Decoder
from sdc_ext.sets.info import SetInfo

_LOG = logging.getLogger(__name__)

# The largest difference from 1 of the sum of an image's soft labels.
_ROUNDING = 1e-3


def warn(path: Path, lines: Iterable[str]) -> None:
    """Warns of what is odd about the set at a path, one line each."""
    for line in lines:
        _LOG.warning("%s", visible(f"{path}: {line}"))


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
    channels, classes = len(info.mean), len(info.classes)
    count = len(images) if images.ndim else 0
    if not (is_plain(images) and is_plain(labels) and images.is_floating_point()):
        problem = f"images and labels are of the types {images.dtype} and {labels.dtype}"
    elif images.ndim != 4 or images.shape[1] != channels:
        problem = f"images have the shape {tuple(images.shape)}, not (N, {channels}, H, W)"
    elif images.numel() == 0:
        problem = "there are no images"
    elif not bool(images.float().square().sum().isfinite()):
        problem = "images are not finite, or too large to compute with"
    elif info.ipc > count:
        problem = f"it holds {number_of(count, 'image')}, but {info.ipc} per class"
    elif not Decoder(info.factor).divides((images.shape[2], images.shape[3])):
        size = f"{images.shape[2]}x{images.shape[3]}"
        problem = f"factor {info.factor} does not divide images of {size} pixels"
    elif labels.shape not in ((count,), (count, classes)):
        problem = f"labels have the shape {tuple(labels.shape)}, for {number_of(count, 'image')}"
    elif labels.ndim == 1:
        problem = problem_of_classes(labels, classes)
    else:
        problem = _of_soft_labels(labels)
    if problem:
        raise InputError(f"{name} is damaged ({problem}): pass another copy of it")
    check_normalised(images, name)


def check_normalised(images: Tensor, name: str) -> None:
    """Raises InputError for pixels from 0 to 255 where a file should hold normalised images."""
    whole = bool(((images >= 0) & (images <= 255) & (images == images.round())).all())
    if whole and images.max() > 1:
        raise InputError(
            f"{name} holds whole numbers from 0 to 255, which look like pixels rather than "
            "normalised images: normalise them as the data, or pass a folder of pictures"
        )


def check_pixels(pixels: Tensor, images: Tensor, name: str) -> None:
    """Raises InputError unless a file holds a pixel for each value of its whitened images."""
    fit = is_plain(pixels) and pixels.is_floating_point() and pixels.shape == images.shape
    if not fit or not bool(pixels.isfinite().all()):
        raise InputError(
            f"{name} is damaged (its pixels do not belong to its images): pass another copy of it"
        )


def problem_of_classes(labels: Tensor, classes: int) -> str:
    """Says what is wrong with hard labels (N,); "" if nothing is."""
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

"""Finds the labels of a synthetic batch, which a loop that matches features need not pass on."""

from __future__ import annotations

from collections.abc import Iterator
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from sdc_ext._graphs import are_wrapped

# The tolerance of float32 when labels are traced by the derivative of an augmentation.
_MIXED = 1e-2


def labels_in_sight(
    frame: FrameType | None, images: Tensor, known: Tensor | None = None
) -> list[Tensor]:
    """Returns the different integer vectors of one entry per image that a loop can see.

    Args:
        frame: The frame of a function. Its variables and those of its callers are searched, and
            the attributes of any object that holds the images.
        images: The synthetic images (N, ...).
        known: Their labels at an earlier call, which count alone while they are in sight.

    Returns:
        Vectors (N,) int64 without negative entries, without repetitions.
    """
    found: list[Tensor] = []
    soft = False  # soft labels, beside which an integer vector is something else
    while frame is not None:
        for value in _with_attributes(frame.f_locals, images):
            soft = soft or _are_probabilities(value, images)
            if _are_labels(value, len(images)):
                labels = value.detach().to(images.device, torch.int64)
                if known is not None and torch.equal(labels, known):
                    return [labels]
                if not any(torch.equal(labels, other) for other in found):
                    found.append(labels)
        frame = frame.f_back
    return [] if soft else found


def traced(batch: Tensor, images: Tensor, labels: Tensor) -> Tensor | None:
    """Returns the labels of a batch that is made from images by slicing, decoding, augmentation.

    The derivative of the batch by the images is applied to noise, and to the same noise with
    each image's part multiplied by a code of its label. Where all that a sample is made from has
    one label, the second is the first times this code.

    Args:
        batch: The batch (B, ...), with its graph.
        images: The images (N, ...) that it is made from, a leaf.
        labels: Their labels (N,) int64.

    Returns:
        The labels (B,) int64; None if a sample is made from images of several labels, or of none.
    """
    if batch is images:
        return labels
    weights = torch.zeros_like(batch, requires_grad=True)
    (pulled,) = torch.autograd.grad(batch, images, weights, create_graph=True, retain_graph=True)
    noise = torch.rand_like(images) + 0.5
    codes = (labels + 1).to(noise).view(-1, *[1] * (images.ndim - 1))
    plain, coded = (
        torch.autograd.grad(pulled, weights, direction, retain_graph=True)[0].flatten(1)
        for direction in (noise, noise * codes)
    )
    sizes = plain.square().sum(1)
    code = (plain * coded).sum(1) / sizes
    rest = (coded - code.round()[:, None] * plain).square().sum(1)
    if not bool((rest <= _MIXED**2 * sizes).all()):  # not a number where nothing flows
        return None
    return code.round().long() - 1


def _with_attributes(values: dict[str, Any], images: Tensor) -> Iterator[Any]:
    for value in list(values.values()):
        yield value
        inner = getattr(value, "__dict__", None)
        if isinstance(inner, dict) and any(v is images for v in inner.values()):
            yield from inner.values()


def _are_labels(value: Any, count: int) -> bool:
    if not isinstance(value, Tensor) or value.shape != (count,) or value.dtype is torch.bool:
        return False
    if value.is_floating_point() or value.is_complex() or are_wrapped([value]):
        return False
    return count > 0 and int(value.min()) >= 0


def _are_probabilities(value: Any, images: Tensor) -> bool:
    if not isinstance(value, Tensor) or value is images or not value.is_floating_point():
        return False
    if value.ndim != 2 or len(value) != len(images) or value.shape[1] < 2:
        return False
    if are_wrapped([value]):
        return False
    sums = value.detach().sum(1)
    return bool((value >= 0).all()) and torch.allclose(sums, torch.ones_like(sums), atol=1e-3)

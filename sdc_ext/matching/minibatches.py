"""Draws the minibatches of the inner loop, in the order of MTT's code."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sdc_ext.augment.base import Augmentation, Replay


@dataclass(frozen=True)
class Minibatch:
    """The synthetic images of one inner step.

    Attributes:
        rows: The images' positions in the synthetic set (B,), int64.
        replay: The augmentation drawn for them; it gives the same result on every call.
    """

    rows: Tensor
    replay: Replay


def whole_set(size: int) -> Minibatch:
    """Returns one minibatch of all ``size`` images, without augmentation."""
    return Minibatch(torch.arange(size), lambda images: images)


def draw_minibatches(
    size: int,
    batch_syn: int,
    syn_steps: int,
    augmentation: Augmentation,
    image_size: tuple[int, int],
) -> list[Minibatch]:
    """Draws one minibatch for each inner step, in the order of MTT's code.

    A random permutation of the set is cut into pieces of ``batch_syn`` images. They are used from
    the last to the first, so that a short piece comes first; then a new permutation is drawn.
    Augmentation parameters are drawn for each image.

    Args:
        size: The number of images in the synthetic set.
        batch_syn: The number of images per step; 0 means all.
        syn_steps: The number of inner steps N.
        augmentation: The augmentation; see
            [`parse_augmentation`][sdc_ext.augment.parse_augmentation].
        image_size: (height, width) in pixels.

    Returns:
        The N minibatches. Draws use torch's global CPU generator.
    """
    batches: list[Minibatch] = []
    pieces: list[Tensor] = []
    for _ in range(syn_steps):
        if not pieces:
            pieces = list(torch.split(torch.randperm(size), batch_syn or size))
        rows = pieces.pop()
        batches.append(Minibatch(rows, augmentation.draw(image_size, len(rows))))
    return batches

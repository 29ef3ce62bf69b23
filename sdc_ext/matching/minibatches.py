"""The minibatches of the inner loop, drawn as the originals draw them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sdc_ext.augment.base import Augmentation, Replay


@dataclass(frozen=True)
class Minibatch:
    """The synthetic images of one inner step.

    Attributes:
        rows: (B,) int64, which images of the synthetic set.
        replay: the augmentation drawn for them; it gives the same on every call.
    """

    rows: Tensor
    replay: Replay


def whole_set(size: int) -> Minibatch:
    """All ``size`` images, not augmented."""
    return Minibatch(torch.arange(size), lambda images: images)


def draw_minibatches(
    size: int,
    batch_syn: int,
    syn_steps: int,
    augmentation: Augmentation,
    image_size: tuple[int, int],
) -> list[Minibatch]:
    """Minibatches of a set of ``size`` images, as the originals draw them.

    A permutation is cut into pieces of ``batch_syn``, which are used from the last, so that a
    short one comes first; when they are used up, another is drawn. Augmentation parameters are
    drawn an image.

    Args:
        size: of the set.
        batch_syn: images a step; 0 is all.
        syn_steps: N.
        augmentation: see [`parse_augmentation`][sdc_ext.augment.parse_augmentation].
        image_size: (height, width) in pixels.
    """
    batches: list[Minibatch] = []
    pieces: list[Tensor] = []
    for _ in range(syn_steps):
        if not pieces:
            pieces = list(torch.split(torch.randperm(size), batch_syn or size))
        rows = pieces.pop()
        batches.append(Minibatch(rows, augmentation.draw(image_size, len(rows))))
    return batches

"""Defines augmentations, which draw parameters once and replay them on any batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

Replay = Callable[[Tensor], Tensor]
"""Maps images (B, C, H, W) to augmented images of the same shape, alike on every call."""


class Normalisation(Protocol):
    """Turns normalised images into pixels and back, as the ``Preprocessing`` of real data does."""

    def pixels(self, images: Tensor) -> Tensor:
        """Turns normalised images (B, C, H, W) into pixels, whose range is [0, 1]."""
        ...

    def normalize(self, images: Tensor) -> Tensor:
        """Normalises pixels (B, C, H, W)."""
        ...


def seeded(change: Replay) -> Replay:
    """Draws a seed, which is set before each call of a random change of images."""
    seed = int(torch.randint(2**31, ()))

    def replay(images: Tensor) -> Tensor:
        # manual_seed seeds GPUs as well.
        devices = [images.device] if images.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            return change(images)

    return replay


class Augmentation(Protocol):
    """A random transformation whose draw is separate from its application."""

    def draw(self, image_size: tuple[int, int], n: int = 1) -> Replay:
        """Draws the parameters from torch's global CPU generator.

        Args:
            image_size: (height, width) in pixels.
            n: 1 for one draw that all images of a batch share (siamese augmentation), or the
                size of the batch for one draw per image.

        Returns:
            A function from images (B, C, H, W) to images of the same shape. It may be called on
            several batches; with ``n`` equal to 1 they may have any size B.
        """
        ...


@dataclass(frozen=True)
class NoAugmentation:
    """Leaves the images as they are."""

    def draw(self, image_size: tuple[int, int], n: int = 1) -> Replay:
        """Draws nothing, and returns the identity."""
        del image_size, n
        return lambda images: images

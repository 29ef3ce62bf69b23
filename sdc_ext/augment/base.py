"""What an augmentation is: it draws parameters, and replays them on any batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

Replay = Callable[[Tensor], Tensor]


class Augmentation(Protocol):
    """A random transformation whose draw is an object of its own."""

    def draw(self, image_size: tuple[int, int], n: int = 1) -> Replay:
        """Draws the parameters, from torch's global CPU generator.

        Args:
            image_size: (height, width) in pixels.
            n: 1 for one draw that all images of any batch share (siamese), or the size of the
                batch for a draw an image.

        Returns:
            A function from images of shape (B, C, H, W) to images of the same shape. It may be
            called on several batches, of any B where ``n`` is 1.
        """
        ...


@dataclass(frozen=True)
class NoAugmentation:
    """Leaves the images as they are."""

    def draw(self, image_size: tuple[int, int], n: int = 1) -> Replay:
        del image_size, n
        return lambda images: images

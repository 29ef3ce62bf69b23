"""Normalises stored images for networks, and turns normalised images back into pixels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sdc_ext.data.whitening import Whitening

# The number of images converted to float64 at once, since that takes eight times their memory.
_AT_ONCE = 1024


@dataclass(frozen=True)
class Preprocessing:
    """The normalisation of images, by channel statistics or by ZCA whitening.

    Attributes:
        mean: The mean of each channel, of pixels in [0, 1].
        std: The standard deviation of each channel.
        whitening: Replaces mean and std, which are then 0 and 1.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    whitening: Whitening | None = None

    @classmethod
    def of_statistics(cls, images: Tensor) -> Preprocessing:
        """Returns the channel statistics of stored images (N, C, H, W)."""
        channels = images.shape[1]
        total = torch.zeros(channels, dtype=torch.float64)
        squares = torch.zeros(channels, dtype=torch.float64)
        for some in torch.split(images, _AT_ONCE):
            pixels = as_pixels(some).double()
            total += pixels.mean((2, 3)).sum(0)
            squares += pixels.square().mean((2, 3)).sum(0)
        mean = total / len(images)
        # A constant channel has a deviation of 0; one grey level keeps the division finite.
        std = (squares / len(images) - mean.square()).clamp(min=0).sqrt().clamp(min=1 / 255)
        return cls(tuple(mean.tolist()), tuple(std.tolist()))

    @classmethod
    def of_whitening(cls, images: Tensor) -> Preprocessing:
        """Returns the ZCA whitening of stored images (N, C, H, W), cached on disk."""
        channels = images.shape[1]
        whitening = Whitening.fit_once(as_pixels(images))
        return cls((0.0,) * channels, (1.0,) * channels, whitening)

    @property
    def whitened_by(self) -> str | None:
        """The fingerprint of the images that the whitening was fitted to; None without one."""
        return None if self.whitening is None else self.whitening.fingerprint

    def normalize(self, images: Tensor) -> Tensor:
        """Normalises or whitens stored images (B, C, H, W); the result is float32."""
        pixels = as_pixels(images)
        if self.whitening is not None:
            return self.whitening.apply(pixels)
        mean, std = self._statistics(pixels)
        return (pixels - mean) / std

    def pixels(self, images: Tensor) -> Tensor:
        """Turns normalised images (B, C, H, W) back into pixels, without clipping them."""
        if self.whitening is not None:
            return self.whitening.undo(images)
        mean, std = self._statistics(images)
        return images * std + mean

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = (
            torch.tensor(values, dtype=like.dtype, device=like.device)[:, None, None]
            for values in (self.mean, self.std)
        )
        return mean, std


def as_pixels(images: Tensor) -> Tensor:
    """Converts stored images, uint8 or float in [0, 1], to float32 in [0, 1]."""
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()

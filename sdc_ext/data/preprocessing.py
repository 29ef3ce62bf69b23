"""How stored images become what networks are given, and back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sdc_ext.data.whitening import Whitening

# Images are brought to float64 this many at a time, since that takes eight times a byte.
_AT_ONCE = 1024


@dataclass(frozen=True)
class Preprocessing:
    """Channel statistics that are taken out of images, or a ZCA whitening.

    Attributes:
        mean: Channel means, length C, of pixels in [0, 1].
        std: Channel standard deviations, length C.
        whitening: Takes the place of mean and std, which are then 0 and 1.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    whitening: Whitening | None = None

    @classmethod
    def of_statistics(cls, images: Tensor) -> Preprocessing:
        """The channel statistics of stored images (N, C, H, W)."""
        channels = images.shape[1]
        total = torch.zeros(channels, dtype=torch.float64)
        squares = torch.zeros(channels, dtype=torch.float64)
        for some in torch.split(images, _AT_ONCE):
            pixels = as_pixels(some).double()
            total += pixels.mean((2, 3)).sum(0)
            squares += pixels.square().mean((2, 3)).sum(0)
        mean = total / len(images)
        # A channel of one colour has no spread; a single grey level keeps the division finite.
        std = (squares / len(images) - mean.square()).clamp(min=0).sqrt().clamp(min=1 / 255)
        return cls(tuple(mean.tolist()), tuple(std.tolist()))

    @classmethod
    def of_whitening(cls, images: Tensor) -> Preprocessing:
        """The ZCA whitening of stored images (N, C, H, W), fitted once and kept on disk."""
        channels = images.shape[1]
        whitening = Whitening.fit_once(as_pixels(images))
        return cls((0.0,) * channels, (1.0,) * channels, whitening)

    @property
    def whitened_by(self) -> str | None:
        """Fingerprint of the images that the whitening was fitted to; None without one."""
        return None if self.whitening is None else self.whitening.fingerprint

    def normalize(self, images: Tensor) -> Tensor:
        """Stored images (B, C, H, W) to float32, whitened or with the statistics taken out."""
        pixels = as_pixels(images)
        if self.whitening is not None:
            return self.whitening.apply(pixels)
        mean, std = self._statistics(pixels)
        return (pixels - mean) / std

    def pixels(self, images: Tensor) -> Tensor:
        """Normalised images (B, C, H, W) as pixels, in [0, 1] unless they left it; not clipped."""
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
    """Stored images, uint8 or float, as float32 in [0, 1]."""
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()

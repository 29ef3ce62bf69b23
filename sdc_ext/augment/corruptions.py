"""Common corruptions of images at five severities, which also replay as an augmentation does.

The kinds and severities are those of CIFAR-10-C, as far as kornia and torch have them. The blur is
Gaussian where CIFAR-10-C's of that name is; JPEG is kornia's differentiable codec.

Reference: Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions
and Perturbations" (ICLR 2019), and ``make_cifar_c.py`` of its repository.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from sdc_ext.augment.base import Augmentation, NoAugmentation, Normalisation, Replay, seeded
from sdc_ext.errors import InputError, check_choice

Change: TypeAlias = Callable[[Tensor, float], Tensor]
"""Maps pixels (B, C, H, W) in [0, 1] and a strength to changed pixels."""


def _gaussian_noise(pixels: Tensor, std: float) -> Tensor:
    return pixels + std * torch.randn(pixels.shape).to(pixels)


def _gaussian_blur(pixels: Tensor, sigma: float) -> Tensor:
    from kornia.filters import gaussian_blur2d

    side = 2 * round(3 * sigma) + 1
    return gaussian_blur2d(pixels, (side, side), (sigma, sigma), "replicate")


def _brightness(pixels: Tensor, added: float) -> Tensor:
    from kornia.enhance import adjust_brightness

    return adjust_brightness(pixels, added)


def _contrast(pixels: Tensor, kept: float) -> Tensor:
    # kornia's function takes the mean of a grey image, which exists for 1 and 3 channels alone.
    mean = pixels.mean((2, 3), keepdim=True)
    return mean + kept * (pixels - mean)


def _pixelate(pixels: Tensor, kept: float) -> Tensor:
    height, width = pixels.shape[2:]
    small = max(1, round(height * kept)), max(1, round(width * kept))
    return F.interpolate(F.interpolate(pixels, small, mode="area"), (height, width))


def _jpeg(pixels: Tensor, quality: float) -> Tensor:
    from kornia.enhance import jpeg_codec_differentiable

    is_colour = pixels.shape[1] == 3
    # Every channel of other images is compressed as a grey image.
    pictures = pixels if is_colour else pixels.flatten(0, 1)[:, None].expand(-1, 3, -1, -1)
    coded: Tensor = jpeg_codec_differentiable(pictures, pixels.new_full((1,), quality))
    return coded if is_colour else coded.mean(1).view_as(pixels)


_CHANGES: dict[str, tuple[Change, tuple[float, ...]]] = {
    "gaussian-noise": (_gaussian_noise, (0.04, 0.06, 0.08, 0.09, 0.10)),
    "gaussian-blur": (_gaussian_blur, (0.4, 0.6, 0.7, 0.8, 1.0)),
    "brightness": (_brightness, (0.05, 0.1, 0.15, 0.2, 0.3)),
    "contrast": (_contrast, (0.75, 0.5, 0.4, 0.3, 0.15)),
    "pixelate": (_pixelate, (0.95, 0.9, 0.85, 0.75, 0.65)),
    "jpeg": (_jpeg, (80.0, 65.0, 58.0, 50.0, 40.0)),
}

CORRUPTIONS = tuple(_CHANGES)

SEVERITIES = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Corruption:
    """A corruption at one severity, an [`Augmentation`][sdc_ext.augment.Augmentation].

    A draw is a seed, so that it replays alike. Noise differs from image to image in any draw.

    Args:
        name: One of ``CORRUPTIONS``.
        severity: From 1 to 5.
        normalisation: The normalisation of the images; None if they are pixels.

    Raises:
        InputError: If the name or the severity is unknown.
    """

    name: str
    severity: int
    normalisation: Normalisation | None = None

    def __post_init__(self) -> None:
        check_choice("corruption", self.name, CORRUPTIONS)
        if self.severity not in SEVERITIES:
            raise InputError(
                f"the severity of {self.name} must be from 1 to 5, got {self.severity}: write, for "
                f"example, {self.name}:3"
            )

    def __str__(self) -> str:
        return f"{self.name}:{self.severity}"

    def draw(self, image_size: tuple[int, int], n: int = 1) -> Replay:
        """Draws as [`Augmentation.draw`][sdc_ext.augment.Augmentation.draw] says."""
        del image_size, n
        return seeded(self._apply)

    def _apply(self, images: Tensor) -> Tensor:
        change, strengths = _CHANGES[self.name]
        strength = strengths[self.severity - 1]
        if self.normalisation is None:
            return change(images, strength).clamp(0, 1)
        pixels = self.normalisation.pixels(images).clamp(0, 1)
        return self.normalisation.normalize(change(pixels, strength).clamp(0, 1)).to(images.dtype)


def parse_corruption(spec: str, normalisation: Normalisation | None = None) -> Augmentation:
    """Returns the corruption that ``spec`` names.

    Args:
        spec: ``"none"``, or a name and a severity from 1 to 5, e.g. ``"gaussian-noise:3"``.
        normalisation: The normalisation of the images; None if they are pixels.

    Raises:
        InputError: If it names no corruption.
    """
    if spec == "none":
        return NoAugmentation()
    name, _, severity = spec.partition(":")
    if not severity.isascii() or not severity.isdecimal():
        raise InputError(
            f"cannot read the corruption {spec!r}: write none or NAME:SEVERITY, e.g. "
            "gaussian-noise:3"
        )
    return Corruption(name, int(severity[:9]), normalisation)

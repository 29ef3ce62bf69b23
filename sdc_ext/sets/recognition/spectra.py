"""Compares the spectra of images with those that real images have, normalised or whitened.

Natural images have far more power in low frequencies than in high ones. Normalisation keeps the
ratio and whitening flattens it, so that spectra show which of them was applied, also to images that
were learnt: what learning adds is nearly white in the space of the images that are learnt.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from sdc_ext.data.preprocessing import Preprocessing, as_pixels
from sdc_ext.data.real import RealData
from sdc_ext.data.whitening import EPS
from sdc_ext.sets.decoding import Decoder

# Spectra of a thousand images are exact to three per cent per frequency, which is less than the
# differences that matter.
_MOST_REAL = 1000

_CONTRASTS = torch.logspace(-4, 2, 37)
_NOISES = torch.logspace(-5, 1.5, 40)


@dataclass(frozen=True)
class Fit:
    """How well images are explained as real ones plus white noise.

    Attributes:
        score: The mean log likelihood per frequency and channel, up to a constant.
        noise: The share of the noise in the power of the images.
    """

    score: float
    noise: float


@dataclass(frozen=True)
class Reference:
    """Real images as pixels, with what their spectra need.

    Attributes:
        pixels: Real images (N, C, H, W) in [0, 1].
        colours: An orthonormal basis (C, C) in which their channels are uncorrelated.
    """

    pixels: Tensor
    colours: Tensor

    @classmethod
    def of(cls, data: RealData) -> Reference:
        """Takes training images at equal distances."""
        count = len(data.train.images)
        index = torch.linspace(0, count - 1, min(count, _MOST_REAL)).long()
        pixels = as_pixels(data.train.images[index])
        channels = pixels.transpose(0, 1).flatten(1)
        covariance = torch.cov(channels).reshape(len(channels), len(channels))
        return cls(pixels, torch.linalg.eigh(covariance)[1].T)

    def fit_normalised(self, images: Tensor, statistics: Preprocessing, factor: int = 1) -> Fit:
        """Explains images (N, C, H, W) as real ones, normalised by channel statistics.

        With a factor they are explained as grids of smaller real images.
        """
        real = statistics.normalize(self.grids(factor))
        mean = real.mean(0, keepdim=True)
        return _fit(self._spectrum(images - mean), self._spectrum(real - mean))

    def grids(self, factor: int) -> Tensor:
        """Returns real images, or grids of factor x factor smaller ones, as many as there are."""
        decoder = Decoder(factor)
        count = len(self.pixels) // decoder.parts * decoder.parts
        return decoder.encode(self.pixels[:count])

    def factors(self, most: int) -> list[int]:
        """Returns the factors from 1 by which the size of the images can be divided."""
        size = (self.pixels.shape[2], self.pixels.shape[3])
        some = range(1, most + 1)
        return [f for f in some if Decoder(f).divides(size) and len(self.pixels) >= 2 * f**2]

    def fit_whitened(self, images: Tensor) -> Fit:
        """Explains images (N, C, H, W) as real ones under ZCA whitening.

        The variances along frequencies stand for those along the principal directions, which are
        frequencies if images look alike everywhere. So no matrix has to be decomposed.
        """
        variances = self._spectrum(self.pixels - self.pixels.mean(0, keepdim=True))
        return _fit(self._spectrum(images), variances / (variances + EPS))

    def _spectrum(self, images: Tensor) -> Tensor:
        """Returns the mean power (C, H, W) of each frequency and uncorrelated channel."""
        rotated = torch.einsum("dc,nchw->ndhw", self.colours, images)
        power: Tensor = torch.fft.fft2(rotated, norm="ortho").abs().square().mean(0)
        return power


def score_of_noise(images: Tensor) -> float:
    """Returns the score of images as white noise around 0, as ``Fit.score`` counts it."""
    return -1.0 - float(images.square().mean().clamp(min=1e-12).log())


def _fit(power: Tensor, real: Tensor) -> Fit:
    """Chooses contrast and noise by maximal likelihood (Whittle's, of independent frequencies)."""
    return max(_fits(power, real), key=lambda fit: fit.score)


def _fits(power: Tensor, real: Tensor) -> Iterator[Fit]:
    power, real = power.flatten(), real.flatten()
    total = power.mean().clamp(min=1e-12)
    for contrast in _CONTRASTS:
        expected = contrast * real + _NOISES[:, None]
        scores = -(power / expected + expected.log()).mean(1)
        best = int(scores.argmax())
        noise = float((_NOISES[best] / total).clamp(max=1))
        yield Fit(float(scores[best]), noise)

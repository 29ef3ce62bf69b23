"""Recognises from which real data a set was made, by what a linear classifier of them sees."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from scipy.stats import binom
from torch import Tensor

from sdc_ext._words import number_of
from sdc_ext.data.known import CLASS_COUNTS, KNOWN
from sdc_ext.data.preprocessing import as_pixels
from sdc_ext.data.real import RealData
from sdc_ext.sets.recognition.conclusions import Certainty, Conclusion

DATASET = "data set"

_MOST_REAL = 5000
_MOST_TESTED = 1000

# Larger images are averaged to this size: what a linear classifier sees is coarse.
_SIZE = 16

_RIDGE = 1.0

# The chance of as many right labels by guessing. A user opens few sets, so that one in ten
# thousand is never met by accident.
_SURE = 1e-4
_LIKELY = 1e-2


def candidates(shape: tuple[int, ...], classes: int, *, exact: bool | None) -> list[str]:
    """Returns the names of built-in data sets with images of a shape and enough classes.

    Args:
        shape: Channels, height and width.
        classes: The number of columns of soft labels, or the highest class plus one.
        exact: Whether ``classes`` is the number of classes, rather than at most that many; None if
            nothing is known of it.
    """
    shapes = {name: (one.shape[0], *one.shape[2]) for name, one in KNOWN.items()}
    names = [name for name, own in shapes.items() if own == shape]
    if exact is None:
        return names
    if exact:
        return [name for name in names if CLASS_COUNTS[name] == classes]
    # A set has images of all classes, up to a few for which nothing was distilled.
    return [name for name in names if classes <= CLASS_COUNTS[name] < 2 * classes]


@dataclass(frozen=True)
class _Linear:
    """A ridge regression from coarse pixels to classes."""

    weights: Tensor
    mean: Tensor

    @classmethod
    def fit(cls, pixels: Tensor, labels: Tensor, classes: int) -> _Linear:
        flat = _coarse(pixels)
        mean = flat.mean(0, keepdim=True)
        flat = flat - mean
        targets = F.one_hot(labels, classes).double() - 1 / classes
        gram = flat.T @ flat + _RIDGE * torch.eye(flat.shape[1], dtype=torch.float64)
        return cls(torch.linalg.solve(gram, flat.T @ targets), mean)

    def hits(self, pixels: Tensor, labels: Tensor) -> int:
        found = ((_coarse(pixels) - self.mean) @ self.weights).argmax(1)
        return int((found == labels).sum())


def recognise_origin(
    pixels: Tensor, labels: Tensor, data: RealData, *, like_noise: bool
) -> Conclusion:
    """Concludes whether images and labels belong to real data.

    Args:
        pixels: The images as pixels (N, C, H, W).
        labels: Their classes (N,).
        data: The real data.
        like_noise: Whether the images are so much like noise that nothing need be seen in them.
    """
    train = _spaced(len(data.train.images), _MOST_REAL)
    test = _spaced(len(data.test), _MOST_TESTED)
    classes = len(data.classes)
    real = data.train.images[train], data.train.labels[train]
    linear = _Linear.fit(as_pixels(real[0]), real[1], classes)
    expected = linear.hits(as_pixels(data.test.images[test]), data.test.labels[test]) / len(test)
    hits, count = linear.hits(pixels, labels), len(labels)
    by_chance = float(binom.sf(hits - 1, count, 1 / classes))
    so_few = float(binom.cdf(hits, count, expected))
    evidence = (
        f"a linear classifier of the real images gives {hits} of {number_of(count, 'image')} "
        f"their label (probability {by_chance:.1e} by chance), and {100 * expected:.0f} % of "
        "the test images"
    )
    certainty: Certainty = "unknown"
    if by_chance < _LIKELY:
        certainty = "sure" if by_chance < _SURE else "likely"
    elif so_few < _SURE and not like_noise:
        return Conclusion(DATASET, f"not {data.name}, or other labels", "likely", evidence)
    return Conclusion(DATASET, data.name, certainty, evidence)


def _spaced(count: int, most: int) -> Tensor:
    """Returns at most so many positions at equal distances."""
    return torch.linspace(0, count - 1, min(count, most)).long()


def _coarse(pixels: Tensor) -> Tensor:
    height, width = pixels.shape[2:]
    if max(height, width) > _SIZE:
        pixels = F.adaptive_avg_pool2d(pixels, (min(height, _SIZE), min(width, _SIZE)))
    return pixels.flatten(1).double()

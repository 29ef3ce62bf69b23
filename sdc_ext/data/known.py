"""What is known of the built-in data sets before they are loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

Statistics: TypeAlias = tuple[tuple[float, ...], tuple[float, ...]]
"""The mean and the standard deviation of each channel."""

ImageShape: TypeAlias = tuple[int, int, tuple[int, int]]
"""The numbers of channels and classes, and the size of the images."""


@dataclass(frozen=True)
class Known:
    """A data set with images of one size.

    Attributes:
        title: The name that torchvision and the original repositories give it.
        train: The number of training images.
        shape: The shape of the images, and the number of classes.
        statistics: The channel statistics that the original repositories hard-code; None if they
            do not use the data set, and its own are computed.
    """

    title: str
    train: int
    shape: ImageShape
    statistics: Statistics | None


_CIFAR10: Statistics = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
_CIFAR100: Statistics = ((0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762))
_SVHN: Statistics = ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970))
_IMAGENET: Statistics = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

KNOWN = {
    "digits": Known("digits", 1_347, (1, 10, (8, 8)), None),
    "mnist": Known("MNIST", 60_000, (1, 10, (28, 28)), ((0.1307,), (0.3081,))),
    "fashionmnist": Known("FashionMNIST", 60_000, (1, 10, (28, 28)), ((0.2861,), (0.3530,))),
    "svhn": Known("SVHN", 73_257, (3, 10, (32, 32)), _SVHN),
    "cifar10": Known("CIFAR10", 50_000, (3, 10, (32, 32)), _CIFAR10),
    "cifar100": Known("CIFAR100", 50_000, (3, 100, (32, 32)), _CIFAR100),
    "tinyimagenet": Known("TinyImageNet", 100_000, (3, 200, (64, 64)), _IMAGENET),
}
"""The built-in data sets by name."""

STATISTICS = {name: one.statistics for name, one in KNOWN.items() if one.statistics is not None}
"""Channel means and standard deviations, as the original repositories hard-code them."""

CLASS_COUNTS = {name: one.shape[1] for name, one in KNOWN.items()}
"""The numbers of classes of our data sets, which are known before these are loaded."""

"""Real data in memory: images, labels, classes, and how they are normalised."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sdc_ext.data.image_folder import stratified_split as stratified_split
from sdc_ext.data.whitening import Whitening


@dataclass(frozen=True)
class Split:
    """Images (N, C, H, W), uint8 or float in [0, 1], and labels (N,) int64."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class RealData:
    """A labelled data set in memory, with what is needed to normalise it.

    Attributes:
        name: the name it was loaded under.
        train: what may be distilled.
        test: what accuracies are measured on.
        classes: a name for each label.
        mean: channel means, length C, of pixels in [0, 1].
        std: channel standard deviations, likewise.
        whitening: takes the place of mean and std, which are then 0 and 1.
        folder: The name of the folder they were read from, where their name does not say which
            data they are.
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    whitening: Whitening | None = None
    folder: str | None = None

    @property
    def label(self) -> str:
        """What folders of runs and experts call these data."""
        return self.name if self.folder is None else f"{self.name}-{self.folder}"

    @property
    def channels(self) -> int:
        return self.train.images.shape[1]

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.train.images.shape[2], self.train.images.shape[3]

    def normalize(self, images: Tensor) -> Tensor:
        """Stored images (B, C, H, W) to float32, whitened or with the statistics taken out."""
        pixels = _pixels(images)
        if self.whitening is not None:
            return self.whitening.apply(pixels)
        mean, std = self._statistics(pixels)
        return (pixels - mean) / std

    @property
    def whitened_by(self) -> str | None:
        """Fingerprint of the images that the whitening was fitted to; None without one."""
        return None if self.whitening is None else self.whitening.fingerprint

    @property
    def identity(self) -> tuple[object, ...]:
        """What real data have in common on which networks become the same."""
        return self.name, self.image_size, self.mean, self.std, self.whitened_by

    def whitened(self) -> RealData:
        """The same data under ZCA whitening, fitted to the training images once."""
        zeros, ones = (0.0,) * self.channels, (1.0,) * self.channels
        whitening = Whitening.fit_once(_pixels(self.train.images))
        return replace(self, mean=zeros, std=ones, whitening=whitening)

    def held_out(self) -> RealData:
        """The training images alone, a quarter of each class held out in place of the test set."""
        images, labels = self.train.images, self.train.labels
        train, test = (Split(images[i], labels[i]) for i in stratified_split(labels, self.classes))
        data = replace(self, train=train, test=test)
        return data if self.whitening is None else data.whitened()

    def indices_by_class(self) -> list[Tensor]:
        """For each class, the positions of its images in ``train``."""
        return [(self.train.labels == c).nonzero()[:, 0] for c in range(len(self.classes))]

    def describe(self) -> str:
        """One line for a person: sizes and classes."""
        height, width = self.image_size
        return (
            f"{self.name}: {len(self.train)} train and {len(self.test)} test images of "
            f"{self.channels}x{height}x{width}, {len(self.classes)} classes"
        )

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = (
            torch.tensor(values, dtype=like.dtype, device=like.device)[:, None, None]
            for values in (self.mean, self.std)
        )
        return mean, std


def _pixels(images: Tensor) -> Tensor:
    """Stored images as float32 in [0, 1]."""
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()

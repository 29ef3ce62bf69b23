"""Real data in memory: images, labels, classes, and how they are normalised."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from sdc_ext._files import fingerprint
from sdc_ext.data.image_folder import stratified_split
from sdc_ext.data.preprocessing import Preprocessing
from sdc_ext.data.whitening import Whitening
from sdc_ext.errors import InputError


@dataclass(frozen=True)
class Split:
    """Images (N, C, H, W), uint8 or float in [0, 1], and labels (N,) int64."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def fingerprint(self) -> str:
        """A short text that differs, in all likelihood, between any two splits."""
        return fingerprint(self.images, self.labels)


@dataclass(frozen=True)
class RealData:
    """A labelled data set in memory, with what is needed to normalise it.

    Attributes:
        name: the name it was loaded under.
        train: what may be distilled.
        test: what accuracies are measured on.
        classes: a name for each label.
        preprocessing: how its images are normalised.
        folder: The name of the folder they were read from, where their name does not say which
            data they are.
        note: What else a person should know of them, e.g. that no test set came with them.
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    folder: str | None = None
    note: str = ""

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

    @property
    def network_shape(self) -> tuple[int, int, tuple[int, int]]:
        """Channels, number of classes and image size, which a network for these data must fit."""
        return self.channels, len(self.classes), self.image_size

    @property
    def mean(self) -> tuple[float, ...]:
        """Channel means that are taken out."""
        return self.preprocessing.mean

    @property
    def std(self) -> tuple[float, ...]:
        """Channel standard deviations that are divided by."""
        return self.preprocessing.std

    @property
    def whitening(self) -> Whitening | None:
        """The ZCA whitening, if the images are whitened."""
        return self.preprocessing.whitening

    @property
    def whitened_by(self) -> str | None:
        """Fingerprint of the images that the whitening was fitted to; None without one."""
        return self.preprocessing.whitened_by

    def normalize(self, images: Tensor) -> Tensor:
        """Stored images (B, C, H, W) as networks are given them; see ``Preprocessing``."""
        return self.preprocessing.normalize(images)

    @property
    def identity(self) -> tuple[object, ...]:
        """What real data have in common on which networks become the same."""
        return self.name, self.image_size, self.mean, self.std, self.whitened_by

    def whitened(self) -> RealData:
        """The same data under ZCA whitening, fitted to the training images once."""
        return replace(self, preprocessing=Preprocessing.of_whitening(self.train.images))

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
        """One line for a person: sizes, classes, and what else there is to know."""
        height, width = self.image_size
        note = f"; {self.note}" if self.note else ""
        return (
            f"{self.name}: {len(self.train)} train and {len(self.test)} test images of "
            f"{self.channels}x{height}x{width}, {len(self.classes)} classes{note}"
        )


def check_data(data: RealData) -> None:
    """Raises InputError if the statistics have other channels, or a class has no images."""
    if data.channels != len(data.mean):
        raise InputError(
            f"{data.name} has {data.channels} channels and the statistics have {len(data.mean)}: "
            "leave --statistics out"
        )
    if len(data.classes) < 2:
        raise InputError(f"{data.name} has one class only, {data.classes[0]!r}: add another")
    counts = torch.bincount(data.train.labels, minlength=len(data.classes))
    empty = [data.classes[c] for c in (counts == 0).nonzero()[:, 0].tolist()]
    if empty:
        raise InputError(f"{data.name} has no training images of class {empty[0]!r}: add some")

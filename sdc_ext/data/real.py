"""Holds real data in memory: images, labels, class names and their normalisation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from sdc_ext._files import fingerprint
from sdc_ext._words import number_of
from sdc_ext.data.preprocessing import Preprocessing
from sdc_ext.data.splits import stratified_split
from sdc_ext.data.whitening import Whitening
from sdc_ext.errors import InputError

# The number of images compared at once, so that little memory is needed.
_AT_ONCE = 1024


@dataclass(frozen=True)
class Split:
    """The training or the test part of a data set.

    Attributes:
        images: Images (N, C, H, W), uint8 or float in [0, 1].
        labels: Labels (N,), int64.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that almost certainly differ between any two splits."""
        return fingerprint(self.images, self.labels)


@dataclass(frozen=True, repr=False)
class RealData:
    """A labelled data set in memory, with its normalisation.

    Attributes:
        name: The name under which it was loaded.
        train: The images that are distilled.
        test: The images on which accuracies are measured.
        classes: A name for each label.
        preprocessing: The normalisation of the images.
        folder: The name of the folder that the images were read from, where ``name`` alone does
            not identify the data.
        note: A remark for the description, e.g. that a part was held out for testing.
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
        """The name of these data in the names of folders of runs and experts."""
        return self.name if self.folder is None else f"{self.name}-{self.folder}"

    @property
    def channels(self) -> int:
        """The number of channels, 1 or 3."""
        return self.train.images.shape[1]

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.train.images.shape[2], self.train.images.shape[3]

    @property
    def network_shape(self) -> tuple[int, int, tuple[int, int]]:
        """Channels, number of classes and image size, as ``create_network`` takes them."""
        return self.channels, len(self.classes), self.image_size

    @property
    def mean(self) -> tuple[float, ...]:
        """The mean of each channel, of pixels in [0, 1]; 0 under whitening."""
        return self.preprocessing.mean

    @property
    def std(self) -> tuple[float, ...]:
        """The standard deviation of each channel; 1 under whitening."""
        return self.preprocessing.std

    @property
    def whitening(self) -> Whitening | None:
        """The ZCA whitening; None if the images are not whitened."""
        return self.preprocessing.whitening

    @property
    def whitened_by(self) -> str | None:
        """The fingerprint of the images that the whitening was fitted to; None without one."""
        return self.preprocessing.whitened_by

    def normalize(self, images: Tensor) -> Tensor:
        """Normalises or whitens stored images (B, C, H, W); the result is float32."""
        return self.preprocessing.normalize(images)

    @property
    def identity(self) -> tuple[object, ...]:
        """Values that differ between these data and others, on which networks learn otherwise."""
        of_images = self.name, self.train.fingerprint, self.test.fingerprint, self.image_size
        return *of_images, self.mean, self.std, self.whitened_by

    def whitened(self) -> RealData:
        """Returns the data under ZCA whitening, which is fitted to the training images once."""
        return replace(self, preprocessing=Preprocessing.of_whitening(self.train.images))

    def held_out(self) -> RealData:
        """Returns the training images alone, of which a quarter per class is the new test set.

        Raises:
            InputError: If a class has fewer than two training images.
        """
        images, labels = self.train.images, self.train.labels
        train, test = (Split(images[i], labels[i]) for i in stratified_split(labels, self.classes))
        data = replace(self, train=train, test=test)
        return data if self.whitening is None else data.whitened()

    def few_images(self) -> Tensor:
        """Returns four training images, normalised, on which a choice can be tried."""
        index = torch.linspace(0, len(self.train) - 1, 4).long()
        return self.normalize(self.train.images[index])

    def indices_by_class(self) -> list[Tensor]:
        """Returns for each class the positions of its images in ``train``."""
        return [(self.train.labels == c).nonzero()[:, 0] for c in range(len(self.classes))]

    def __repr__(self) -> str:
        height, width = self.image_size
        note = f"; {self.note}" if self.note else ""
        tested = number_of(len(self.test), "test image")
        return (
            f"{self.name}: {len(self.train)} training and {tested} of "
            f"{self.channels}x{height}x{width}, {number_of(len(self.classes), 'class')}{note}"
        )


def check_data(data: RealData) -> None:
    """Raises InputError if no network can learn from the data.

    Channels may not fit the statistics, a class may be missing, or all images may be the same.
    """
    if data.channels != len(data.mean):
        raise InputError(
            f"{data.name} has {data.channels} channels and the statistics have {len(data.mean)}: "
            "leave `statistics` out"
        )
    if len(data.classes) < 2:
        raise InputError(f"{data.name} has only one class, {data.classes[0]!r}: add another")
    counts = torch.bincount(data.train.labels, minlength=len(data.classes))
    empty = [data.classes[c] for c in (counts == 0).nonzero()[:, 0].tolist()]
    if empty:
        raise InputError(f"{data.name} has no training images of class {empty[0]!r}: add some")
    images = data.train.images
    if all(bool((some == images[:1]).all()) for some in torch.split(images, _AT_ONCE)):
        raise InputError(
            f"all {len(images)} training images of {data.name} are the same: pass images that "
            "differ; if only their transparent parts do, another `background` shows them"
        )

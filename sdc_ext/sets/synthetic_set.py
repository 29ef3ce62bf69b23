"""Holds distilled sets, and stores them in folders that can be evaluated without other files.

A folder holds ``synthetic.safetensors`` (images and labels), ``meta.json`` (settings,
normalisation, and hyper-parameters for training on the set) and ``grid.png``.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_safetensors
from torch import Tensor

from sdc_ext._files import Writer, as_text, fingerprint, settle, write_files
from sdc_ext._reading import regular_file
from sdc_ext._words import number_of
from sdc_ext.data.known import STATISTICS
from sdc_ext.data.preprocessing import Preprocessing
from sdc_ext.data.real import RealData
from sdc_ext.errors import InputError
from sdc_ext.sets.checks import check_pixels, check_tensors, problem_of_classes
from sdc_ext.sets.decoding import Decoder
from sdc_ext.sets.info import SetInfo, read_info

TENSORS = "synthetic.safetensors"

META = "meta.json"

# What a run writes into its folder before it has a set.
RUN = "run.json"

GRID = "grid.png"


@dataclass(frozen=True)
class Distilled:
    """The distilled images and labels at some point of a run.

    Attributes:
        images: Synthetic images (N, C, H, W) as they are stored, normalised.
        labels: Labels (N,) int64, or (N, classes) probabilities.
        lr: The learnt learning rate for training on them; None if none is learnt.
        factor: The number of parts per side of a stored image; see
            [`Decoder`][sdc_ext.sets.Decoder].
    """

    images: Tensor
    labels: Tensor
    lr: float | None = None
    factor: int = 1

    def copy(self) -> Distilled:
        """Returns a detached copy, which later updates of the run do not change."""
        images, labels = self.images.detach().clone(), self.labels.detach().clone()
        return replace(self, images=images, labels=labels)

    def for_training(self) -> tuple[Tensor, Tensor]:
        """Returns the images and labels that networks are trained on."""
        decoder = Decoder(self.factor)
        return decoder.decode(self.images), decoder.repeat(self.labels)


@dataclass(frozen=True, repr=False)
class SyntheticSet:
    """A distilled set: synthetic images with labels and a description.

    Attributes:
        images: Synthetic images (N, C, H, W) float32 for training, normalised with ``info.mean``
            and ``info.std``, or whitened.
        labels: Labels (N,) int64, or (N, classes) probabilities.
        info: Where the set comes from and how to use it.
        unwhitened: The images as pixels (N, C, H, W) if they are whitened; None otherwise.
        stored: The stored images (N / factor^2, C, H, W) from which the images were decoded; None
            if ``info.factor`` is 1, and the images are stored themselves.
    """

    images: Tensor
    labels: Tensor
    info: SetInfo
    unwhitened: Tensor | None = None
    stored: Tensor | None = None

    def __post_init__(self) -> None:
        """Raises InputError for labels without a class, whose counting could fill the memory.

        A factor without stored images is refused, too: the images would be decoded once more after
        they were saved.
        """
        problem = ""
        if self.labels.ndim == 1:
            problem = problem_of_classes(self.labels, len(self.info.classes))
        if problem:
            raise InputError(f"the set's {problem}: pass the set as it was written")
        if (self.stored is None) != (self.info.factor == 1):
            raise InputError(
                f"the set has factor {self.info.factor}, for which `stored` must "
                f"{'not ' if self.info.factor == 1 else ''}be given: use SyntheticSet.of"
            )

    @classmethod
    def of(cls, images: Tensor, labels: Tensor, info: SetInfo, data: RealData) -> SyntheticSet:
        """Returns a set that was made from real data.

        Args:
            images: Synthetic images (N, C, H, W) float32 as they are stored, normalised as the
                data are.
            labels: Their labels (N,) int64, or (N, classes) probabilities.
            info: Where the set comes from and how to use it; ``info.factor`` decodes the images.
            data: The real data.
        """
        synthetic = cls._of_stored(images, labels, info)
        if data.whitening is None:
            return synthetic
        return replace(synthetic, unwhitened=data.preprocessing.pixels(synthetic.images))

    @classmethod
    def _of_stored(cls, images: Tensor, labels: Tensor, info: SetInfo) -> SyntheticSet:
        seen, seen_labels = Distilled(images, labels, factor=info.factor).for_training()
        return cls(seen, seen_labels, info, stored=None if info.factor == 1 else images)

    def decoded(self) -> SyntheticSet:
        """Returns the set with the images that networks see as those that are stored.

        Other formats have no factor, so that this is what they hold.
        """
        if self.stored is None:
            return self
        per_class = self.info.ipc * Decoder(self.info.factor).parts
        return replace(self, info=replace(self.info, ipc=per_class, factor=1), stored=None)

    @property
    def hard_labels(self) -> Tensor:
        """The class of each image (N,).

        For learnt labels it is the class that an image started in; for soft labels in other
        projects' files, which have no settings, it is the most probable one.
        """
        if self.labels.ndim == 1:
            return self.labels
        if not self.info.settings:
            return self.labels.argmax(1)
        return class_labels(len(self.info.classes), len(self.labels) // len(self.info.classes))

    def pixels(self) -> Tensor:
        """Returns the images as pixels (N, C, H, W), clipped to [0, 1] for display."""
        if self.unwhitened is not None:
            return self.unwhitened.clamp(0, 1)
        statistics = Preprocessing(self.info.mean, self.info.std)
        return statistics.pixels(self.images).clamp(0, 1)

    @property
    def title(self) -> str:
        """A title for users: method, data set, images per class, factor and correction."""
        info = self.info
        factor = "" if info.factor == 1 else f", factor {info.factor}"
        return f"{info.method} on {info.dataset}, ipc {info.ipc}{factor}, {info.correction}"

    def __repr__(self) -> str:
        return f"SyntheticSet({self.title}, {number_of(len(self.images), 'image')})"

    def draw(self, to: str | Path | IO[bytes]) -> None:
        """Draws the images by class: up to 10 of each, fewer of many classes, up to 200 classes.

        Args:
            to: A ``.png``, ``.pdf`` or ``.svg`` file; an open file receives a PNG.
        """
        # Imported here so that programs that only read sets do not wait for matplotlib.
        from sdc_ext.sets.grid import draw_grid

        info = self.decoded().info
        draw_grid(self.pixels(), self.hard_labels, info.classes, info.ipc, self.title, to)

    def _repr_png_(self) -> bytes:
        """Returns the picture that a notebook shows, as PNG."""
        buffer = io.BytesIO()
        self.draw(buffer)
        return buffer.getvalue()

    def save(self, folder: str | Path) -> None:
        """Writes the set to a folder; files of the same names are replaced, all or none."""
        write_files(Path(folder), self.files())

    def files(self) -> dict[str, Writer]:
        """Returns what writes each file of the set's folder."""
        tensors = self._tensors()
        info = replace(self.info, tensors=fingerprint(*tensors.values()))
        return {
            TENSORS: lambda path: path.write_bytes(to_safetensors(tensors)),
            GRID: self.draw,
            META: as_text(info.to_json()),
        }

    def _tensors(self) -> dict[str, Tensor]:
        images = self.images if self.stored is None else self.stored
        labels = self.labels[:: Decoder(self.info.factor).parts]
        tensors = {"images": images.contiguous(), "labels": labels.contiguous()}
        if self.unwhitened is not None:
            tensors["pixels"] = self.unwhitened.contiguous()
        return tensors

    @classmethod
    def load(cls, folder: str | Path) -> SyntheticSet:
        """Reads a folder that ``save`` wrote, without executing anything in it.

        Raises:
            InputError: If it is not such a folder, or is damaged.
        """
        folder = Path(folder)
        if not folder.exists():
            raise InputError(f"there is no folder {folder}: name that of a distilled set")
        settle(folder)
        if not os.path.lexists(folder / META):
            raise InputError(
                f"{folder} is not a distilled set (it has no {META}): pass a folder that "
                "sdc-ext distill or select wrote, res_*.pt, images_*.pt, or a folder of pictures"
            )
        try:
            info = read_info(folder / META)
            tensors = load_file(regular_file(folder / TENSORS))
            images, labels, pixels = tensors["images"], tensors["labels"], tensors.get("pixels")
            check_tensors(images, labels, info, str(folder / TENSORS))
            synthetic = cls._of_stored(images, labels, info)
            if pixels is not None:
                check_pixels(pixels, synthetic.images, str(folder / TENSORS))
                synthetic = replace(synthetic, unwhitened=pixels)
            if info.tensors not in (None, fingerprint(*synthetic._tensors().values())):
                raise ValueError(f"{TENSORS} is not the one that {META} was written with")
            return synthetic
        except InputError:
            raise
        except KeyError as error:
            raise InputError(f"the distilled set {folder} is damaged: it lacks {error}") from None
        except (TypeError, ValueError, SafetensorError, OSError) as error:
            raise InputError(f"the distilled set {folder} is damaged: {error}") from None

    def adopt(self, data: RealData) -> RealData:
        """Returns the real data, normalised as this set's images are, for testing.

        Raises:
            InputError: If their images, classes or whitening do not fit the set.
        """
        ours = (tuple(self.images.shape[1:]), len(self.info.classes))
        theirs = ((data.channels, *data.image_size), len(data.classes))
        if ours != theirs:
            raise InputError(
                f"the distilled set has images of {ours[0]} and {ours[1]} classes, {data.name} has "
                f"{theirs[0]} and {theirs[1]}: evaluate on the data set it was made from"
            )
        # The original repositories' files number the classes. They belong to the public data sets,
        # which have statistics here.
        numbered = tuple(map(str, range(len(data.classes))))
        says_nothing = data.name in STATISTICS and numbered in (self.info.classes, data.classes)
        if self.info.classes != data.classes and not says_nothing:
            raise InputError(
                f"{_difference(self.info.classes, data)}: evaluate on the data set it was made from"
            )
        if self.info.whitening is None:
            return replace(data, preprocessing=Preprocessing(self.info.mean, self.info.std))
        whitened = data.whitened()
        if whitened.whitened_by != self.info.whitening:
            raise InputError(
                f"the distilled set's ZCA whitening was fitted to other training images than those "
                f"of {data.name} here: evaluate on the data it was made from"
            )
        return whitened


def _difference(classes: Sequence[str], data: RealData) -> str:
    """Says how the class names of a set and of real data differ."""
    where = "the folder" if data.name == "imagefolder" else data.name
    odd = sorted(set(classes) ^ set(data.classes))
    if odd:
        return f"class {odd[0]!r} is only in one of the distilled set and {where}"
    return f"the distilled set and {where} have the same classes in another order"


def class_labels(num_classes: int, ipc: int) -> Tensor:
    """Returns the labels (num_classes * ipc,) of ``ipc`` images per class, sorted by class."""
    return torch.arange(num_classes).repeat_interleave(ipc)

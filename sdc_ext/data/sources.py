"""Makes real data from users' own sources: folders, torch and Hugging Face data sets, tensors."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sdc_ext._words import number_of
from sdc_ext.data.image_folder import read_image_folder
from sdc_ext.data.pictures import Decoding, changes_note
from sdc_ext.data.preprocessing import Preprocessing
from sdc_ext.data.real import RealData, Split, check_data
from sdc_ext.data.samples import Samples, read_samples
from sdc_ext.data.splits import stratified_split
from sdc_ext.errors import InputError

# The name of data whose owner has not named them.
CUSTOM = "custom"

_TEST_SPLITS = ("test", "validation", "valid", "val")


def as_real_data(
    source: Any,
    *,
    test: Any = None,
    name: str | None = None,
    classes: Sequence[str] | None = None,
    decoding: Decoding | None = None,
) -> RealData:
    """Returns real data from a user's own source.

    The arguments are those of [`load_data`][sdc_ext.data.load_data], but for ``decoding``, which
    says how pictures become pixels.

    Raises:
        InputError: If the source cannot be read, images differ in size or are not pixels in
            range, labels are not classes, a class is empty, or there is only one class.
    """
    how = Decoding() if decoding is None else decoding
    if name is not None:
        check_name(name)
    if isinstance(source, Mapping):
        source, test = _splits(source, test)
    unpictured = all(isinstance(part, RealData | tuple | list | None) for part in (source, test))
    if unpictured and how.background != Decoding().background:
        raise InputError("`background` is for pictures, not tensors or loaded data: leave it out")
    if isinstance(source, RealData | str | Path):
        if test is not None or classes is not None:
            raise InputError(
                "folders and loaded data already have a test set and class names: leave test and "
                "classes out"
            )
        known = _known(source, how)
        return known if name is None else replace(known, name=name)
    if isinstance(test, str | Path | Mapping | RealData):
        raise InputError(
            "`test` takes a pair of tensors, a torch Dataset or a Hugging Face Dataset, not a "
            f"{type(test).__name__}: pass one of them"
        )
    train = read_samples(source, how)
    tested = None if test is None else read_samples(test, how)
    return _real_data(name or CUSTOM, train, tested, classes)


def check_name(name: str) -> str:
    """Returns the name of a data set if it can be part of folder names.

    Raises:
        InputError: If it cannot.
    """
    if re.fullmatch(r"[\w.-]+", name) is None:
        raise InputError(f"{name!r} cannot name a data set: use letters, digits, and any of _ - .")
    return name


def load_image_folder(folder: Path, decoding: Decoding) -> RealData:
    """Loads an image folder under the name ``imagefolder``, with its own channel statistics.

    Args:
        folder: The folder.
        decoding: How pictures become pixels.

    Raises:
        InputError: See [`load_data`][sdc_ext.data.load_data].
    """
    found = read_image_folder(folder, decoding)
    data = RealData(
        "imagefolder",
        Split(*found.train),
        Split(*found.test),
        found.classes,
        Preprocessing.of_statistics(found.train[0]),
        folder=folder.resolve().name,
        note=found.note,
    )
    check_data(data)
    return data


def _known(source: RealData | str | Path, decoding: Decoding) -> RealData:
    if not isinstance(source, RealData):
        return load_image_folder(Path(source), decoding)
    if decoding.image_size not in (None, source.image_size):
        raise InputError(
            f"{source.name} is already loaded, with images of size {source.image_size}: leave "
            "`image_size` out, or load the data at that size"
        )
    return source


def _splits(source: Mapping[str, Any], test: Any) -> tuple[Any, Any]:
    """Returns the training and the test part of a ``DatasetDict``."""
    found = [split for split in _TEST_SPLITS if split in source]
    if "train" not in source:
        raise InputError(
            f"the data set has no split 'train', only {', '.join(source) or 'none'}: pass one "
            "split, and another one as test=..."
        )
    if test is not None:
        return source["train"], test
    return source["train"], source[found[0]] if found else None


def _real_data(
    name: str, train: Samples, test: Samples | None, classes: Sequence[str] | None
) -> RealData:
    if test is not None and train.classes and test.classes and train.classes != test.classes:
        raise InputError(
            f"the training set has the classes {train.classes} and the test set {test.classes}: "
            "pass two parts of the same data set"
        )
    names = _class_names(train, test, classes)
    for samples in (train,) if test is None else (train, test):
        _check_labels(samples.labels, names)
    train_part, test_part = _parts(name, train, test, names)
    statistics = Preprocessing.of_statistics(train_part.images)
    notes = changes_note(train.changes + (Counter() if test is None else test.changes))
    if test is None:
        notes = ["no test set was given, so a quarter of each class is held out", *notes]
    data = RealData(name, train_part, test_part, names, statistics, note="; ".join(notes))
    check_data(data)
    return data


def _class_names(
    train: Samples, test: Samples | None, classes: Sequence[str] | None
) -> tuple[str, ...]:
    if classes is not None:
        return tuple(map(str, classes))
    if train.classes is not None:
        return train.classes
    largest = max(int(part.labels.max()) for part in (train, test) if part is not None)
    if largest >= len(train.labels):  # names would fill the memory before the gap is noticed
        raise InputError(
            f"label {largest} is too large for {number_of(len(train.labels), 'training image')}, "
            "of which each class needs one: number the classes from 0"
        )
    return tuple(map(str, range(largest + 1)))


def _check_labels(labels: Tensor, classes: Sequence[str]) -> None:
    wrong = labels[(labels < 0) | (labels >= len(classes))]
    if len(wrong):
        raise InputError(
            f"label {int(wrong[0])} is outside the {number_of(len(classes), 'class')}: number the "
            "classes from 0, and leave unlabelled images out"
        )


def _parts(
    name: str, train: Samples, test: Samples | None, classes: tuple[str, ...]
) -> tuple[Split, Split]:
    if test is None:
        counts = torch.bincount(train.labels, minlength=len(classes))
        few = (counts < 2).nonzero()[:, 0].tolist()
        if few:
            images = number_of(int(counts[few[0]]), "image")
            raise InputError(
                f"{name} has {images} of class {classes[few[0]]!r}, too few to hold one out for "
                "testing: add some, or pass a test set"
            )
        chosen = stratified_split(train.labels, classes)
        kept, held_out = (Split(train.images[i], train.labels[i]) for i in chosen)
        return kept, held_out
    sizes = [tuple(samples.images.shape[2:]) for samples in (train, test)]
    if sizes[0] != sizes[1]:
        raise InputError(
            f"training images have the size {sizes[0]} and test images {sizes[1]}: pass "
            "`image_size`=(height, width)"
        )
    channels = max(samples.images.shape[1] for samples in (train, test))
    kept, given = (
        Split(samples.images.expand(-1, channels, -1, -1).contiguous(), samples.labels)
        for samples in (train, test)
    )
    return kept, given

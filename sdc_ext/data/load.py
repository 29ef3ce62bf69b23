"""Loads real data by name, and registers data sets."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias, cast

import torch

from sdc_ext._registry import Registry
from sdc_ext._values import Size, check_value, checked
from sdc_ext.data.image_folder import read_tiny_imagenet
from sdc_ext.data.known import KNOWN, STATISTICS
from sdc_ext.data.pictures import Decoding
from sdc_ext.data.preprocessing import Preprocessing
from sdc_ext.data.real import RealData, Split, check_data
from sdc_ext.data.sources import as_real_data, check_name, load_image_folder
from sdc_ext.data.splits import stratified_split
from sdc_ext.errors import InputError, check_choice

_TORCHVISION = [name for name in STATISTICS if name != "tinyimagenet"]

_RESIZED = ("tinyimagenet", "imagefolder")

_OWN_PICTURES = "leave it out, or name the data set imagefolder to read pictures of your own"

_OURS = ("digits", *_TORCHVISION, *_RESIZED)

# Loads real data, or anything that load_data takes except a name, from the folder that the user
# names.
Loader: TypeAlias = Callable[[Path | None], Any]


@checked
def load_data(
    source: Any,
    data_dir: str | Path | None = None,
    *,
    test: Any = None,
    name: str | None = None,
    classes: Sequence[str] | None = None,
    image_size: Size | None = None,
    background: str = "white",
    download: bool = False,
    statistics: str | None = None,
) -> RealData:
    """Loads a data set into memory, by name or from your own images and labels.

    Your own data are read once, so their transforms must not be random, and their pixels must
    not be normalised. Without a test set, a fixed stratified quarter of each class is held out
    for testing, and the description of the data says so.

    Args:
        source: The name of a data set, one of ``DATASETS``; a folder with one folder per class; a
            torch ``Dataset`` of (image, label), with PIL images, tensors (C, H, W) or arrays
            (H, W, C); a Hugging Face ``Dataset`` with an Image and a ClassLabel column, or a
            ``DatasetDict`` of them; or a pair of tensors, images (N, C, H, W) and labels (N,).
            Tensors and arrays are uint8, or floats in [0, 1]; labels are integers from 0.
        data_dir: The folder of the data set with this name; for ``imagefolder`` a folder with one
            folder per class, or with ``train`` and ``test`` (or ``val``) folders of those.
            ``digits`` needs none.
        test: The test set of your own data, as a pair of tensors, or as a torch or Hugging Face
            ``Dataset``.
        name: The name under which distilled sets refer to your own data; by default
            ``"custom"``.
        classes: A name for each label of your own data; by default the names that the source
            has, or the numbers.
        image_size: Resizes the images of folders, and of data sets that are not built in, to
            (height, width) pixels; one number stands for both.
        background: The colour behind transparent pixels of pictures, by its CSS name or as
            ``#rrggbb``.
        download: Whether torchvision may download what is missing.
        statistics: The name of the data set whose channel statistics are used instead of the
            data's own.

    Raises:
        InputError: If there is no such data set, the folder is missing or incomplete, an image is
            corrupt, a class is empty, sizes differ, or pixels or labels are out of range.
    """
    # The kind of size has made two numbers of one.
    decoding = Decoding(cast("tuple[int, int] | None", image_size), background)
    if isinstance(source, str | Path):
        check_source(source)
    if isinstance(source, str) and source in DATASETS:
        if any(given is not None for given in (test, name, classes)):
            raise InputError(
                f"the data set {source} already has a name, a test set and class names: leave "
                "test, name and classes out"
            )
        folder = None if data_dir is None else Path(data_dir)
        data = _load_named(source, folder, decoding, download)
    elif data_dir is not None or download:
        raise InputError(
            "`data_dir` and `download` go with the name of a data set: leave them out where you "
            "pass the data themselves"
        )
    else:
        data = as_real_data(source, test=test, name=name, classes=classes, decoding=decoding)
    return data if statistics is None else with_statistics(data, statistics)


DATASETS: Registry[Loader] = Registry(
    "dataset", "sdc_ext.datasets", {name: functools.partial(load_data, name) for name in _OURS}
)
"""The loaders of data sets by name: ours, those that were registered, and those of packages."""


def register_dataset(name: str, loader: Loader) -> None:
    """Registers a data set under a name, for ``load_data`` and the command line.

    Packages can register data sets without being imported, by an entry point of the group
    ``sdc_ext.datasets`` whose value is the loader.

    Args:
        name: The name: letters, digits, and any of ``_``, ``-`` and ``.``.
        loader: Called with the folder that the user names, or None, it returns anything that
            [`load_data`][sdc_ext.load_data] takes except a name.

    Raises:
        InputError: If a built-in data set has the name, or it contains other characters.
    """
    DATASETS.register(check_name(name), loader)


def check_source(source: str | Path) -> None:
    """Checks that a text is the name of a data set or the path of a folder, and a path the latter.

    Raises:
        InputError: If it is not.
    """
    check_value("source", source, str | Path)
    name = str(source)
    is_path = isinstance(source, Path)
    if os.path.isdir(name) or (not is_path and name in DATASETS):
        return
    folder = "name a data set, or a folder with one folder per class"
    if os.path.exists(name):
        raise InputError(f"{name} is a file, not a folder: {folder}")
    if is_path or os.sep in name or name.startswith("."):
        raise InputError(f"there is no folder {name}: {folder}")
    known = sorted(DATASETS.names())
    listed = [*known, "a folder with one folder per class"]
    check_choice("dataset", name, known, listed=listed)


def takes_image_size(name: str) -> bool:
    """Returns whether the images of the data set with this name can be resized."""
    return name not in _OURS or name in _RESIZED


def _load_named(name: str, folder: Path | None, decoding: Decoding, download: bool) -> RealData:
    loader = DATASETS.get(name)
    if decoding.image_size is not None and not takes_image_size(name):
        raise InputError(f"`image_size` resizes images of folders, not {name}: {_OWN_PICTURES}")
    if decoding.background != Decoding().background and not takes_image_size(name):
        raise InputError(f"`background` is for pictures of folders, not {name}: {_OWN_PICTURES}")
    if name == "digits" and folder is not None:
        raise InputError(f"digits are bundled and take no `data_dir`: {_OWN_PICTURES}")
    if download and name not in _TORCHVISION:
        raise InputError(f"`download` is for torchvision's data sets, not {name}: leave it out")
    if name not in _OURS:
        return as_real_data(loader(folder), name=name, decoding=decoding)
    if name == "digits":
        data = _load_digits()
    elif folder is None:
        raise InputError(f"{name} needs its folder: pass `data_dir`")
    elif name == "imagefolder":
        data = load_image_folder(folder, decoding)
    elif name == "tinyimagenet":
        data = _load_tiny_imagenet(folder, decoding)
    else:
        data = _load_torchvision(name, folder, download)
    check_data(data)
    return data


def with_statistics(data: RealData, name: str) -> RealData:
    """Returns the data, normalised with the channel statistics of another data set.

    Args:
        data: The data.
        name: The data set's name, one of ``STATISTICS``.

    Raises:
        InputError: If there are no statistics of this name, or for other channels.
    """
    statistics = STATISTICS[check_choice("statistics", name, STATISTICS)]
    data = replace(data, preprocessing=Preprocessing(*statistics))
    check_data(data)
    return data


def _load_digits() -> RealData:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.tensor(digits.images / 16, dtype=torch.float32)[:, None]
    labels = torch.tensor(digits.target, dtype=torch.int64)
    classes = tuple(str(c) for c in range(10))
    train, test = stratified_split(labels, classes)
    return RealData(
        "digits",
        Split(images[train], labels[train]),
        Split(images[test], labels[test]),
        classes,
        Preprocessing.of_statistics(images[train]),
    )


def _load_torchvision(name: str, data_dir: Path, download: bool) -> RealData:
    from torchvision import datasets

    cls: Callable[..., object] = getattr(datasets, KNOWN[name].title)
    splits = []
    source: object = None
    for which in ("train", "test"):
        choice = {"split": which} if name == "svhn" else {"train": which == "train"}
        try:
            source = cls(data_dir, download=download, **choice)
        except (RuntimeError, OSError, ValueError) as error:
            if download:
                raise InputError(
                    f"torchvision cannot download {name} to {data_dir}: {error}; try again, or "
                    "unpack the files there yourself"
                ) from error
            raise InputError(
                f"torchvision finds no {name} in {data_dir}: pass the folder that torchvision made "
                "as `data_dir`, or add `download`"
            ) from error
        splits.append(_torchvision_split(source))
    classes = getattr(source, "classes", [str(c) for c in range(10)])
    statistics = Preprocessing(*STATISTICS[name])
    return RealData(name, splits[0], splits[1], tuple(classes), statistics)


def _torchvision_split(source: object) -> Split:
    images = torch.as_tensor(source.data)  # type: ignore[attr-defined]
    if images.ndim == 3:
        images = images[:, None]
    elif images.shape[-1] == 3:  # CIFAR keeps channels last, SVHN does not
        images = images.permute(0, 3, 1, 2).contiguous()
    labels = getattr(source, "targets", None)
    labels = source.labels if labels is None else labels  # type: ignore[attr-defined]
    return Split(images, torch.as_tensor(labels).long())


def _load_tiny_imagenet(folder: Path, decoding: Decoding) -> RealData:
    found = read_tiny_imagenet(folder, decoding)
    return RealData(
        "tinyimagenet",
        Split(*found.train),
        Split(*found.test),
        found.classes,
        Preprocessing(*STATISTICS["tinyimagenet"]),
        note=found.note,
    )

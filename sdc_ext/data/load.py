"""Real data: the bundled digits, the public sets through torchvision, and image folders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from sdc_ext.data.image_folder import (
    read_image_folder,
    read_tiny_imagenet,
    stratified_split,
)
from sdc_ext.data.preprocessing import Preprocessing
from sdc_ext.data.real import RealData, Split
from sdc_ext.errors import InputError, check_choice

Statistics = tuple[tuple[float, ...], tuple[float, ...]]


_CIFAR10: Statistics = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))


# Channel means and standard deviations as the originals hard-code them.
STATISTICS: dict[str, Statistics] = {
    "mnist": ((0.1307,), (0.3081,)),
    "fashionmnist": ((0.2861,), (0.3530,)),
    "svhn": ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
    "cifar10": _CIFAR10,
    "cifar100": ((0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)),
    "tinyimagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}

_TORCHVISION = {
    "mnist": "MNIST",
    "fashionmnist": "FashionMNIST",
    "svhn": "SVHN",
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
}

DATASETS = ("digits", *_TORCHVISION, "tinyimagenet", "imagefolder")


def load_data(
    name: str,
    data_dir: Path | None = None,
    *,
    image_size: tuple[int, int] | None = None,
    download: bool = False,
    statistics: str | None = None,
) -> RealData:
    """Loads a data set whole.

    Args:
        name: one of ``DATASETS``.
        data_dir: where it lies; for ``imagefolder`` a folder with one folder a class, or with
            ``train`` and ``test`` (or ``val``) folders of those. ``digits`` needs none.
        image_size: resizes a folder's images to (height, width) pixels.
        download: lets torchvision fetch what is missing.
        statistics: the name of the set whose channel statistics are used instead of its own.

    Raises:
        InputError: if there is no such set, the folder is missing or incomplete, an image is
            corrupt, a class is empty, or sizes differ.
    """
    check_choice("dataset", name, DATASETS)
    if image_size is not None and name not in ("imagefolder", "tinyimagenet"):
        raise InputError(f"--image-size resizes image folders, not {name}: leave it out")
    if name == "digits" and data_dir is not None:
        raise InputError("digits come with scikit-learn and have no folder: leave --data-dir out")
    if download and name not in _TORCHVISION:
        raise InputError(f"--download is for torchvision's data sets, not {name}: leave it out")
    if name == "digits":
        data = _load_digits()
    elif data_dir is None:
        raise InputError(f"{name} needs its folder: pass --data-dir FOLDER")
    elif name in _TORCHVISION:
        data = _load_torchvision(name, data_dir, download)
    else:
        data = _load_folder(name, data_dir, image_size)
    if name == "imagefolder" and data_dir is not None:
        data = replace(data, folder=data_dir.resolve().name)
    _check(data)
    return data if statistics is None else with_statistics(data, statistics)


def with_statistics(data: RealData, name: str) -> RealData:
    """The same data, normalised with the channel statistics of the data set of that name.

    Raises:
        InputError: If there are none of that name, or of other channels.
    """
    statistics = STATISTICS[check_choice("statistics", name, STATISTICS)]
    data = replace(data, preprocessing=Preprocessing(*statistics))
    _check(data)
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

    cls: Callable[..., object] = getattr(datasets, _TORCHVISION[name])
    splits = []
    source: object = None
    for which in ("train", "test"):
        choice = {"split": which} if name == "svhn" else {"train": which == "train"}
        try:
            source = cls(data_dir, download=download, **choice)
        except (RuntimeError, OSError, ValueError) as error:
            raise InputError(
                f"no {name} in {data_dir} that torchvision can read: pass --data-dir the folder "
                "that torchvision made, or add --download to fetch it there"
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


def _load_folder(name: str, data_dir: Path, image_size: tuple[int, int] | None) -> RealData:
    read = read_image_folder if name == "imagefolder" else read_tiny_imagenet
    (train, test), classes = read(data_dir, image_size)
    if name in STATISTICS:
        statistics = Preprocessing(*STATISTICS[name])
    else:
        statistics = Preprocessing.of_statistics(train[0])
    return RealData(name, Split(*train), Split(*test), classes, statistics)


def _check(data: RealData) -> None:
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

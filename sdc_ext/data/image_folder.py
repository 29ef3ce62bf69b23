"""Reads image folders into memory: one folder per class, in any image format of Pillow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from sdc_ext.errors import InputError

Labelled: TypeAlias = tuple[Tensor, Tensor]

Files: TypeAlias = list[tuple[Path, int]]


_TEST_NAMES = ("test", "val", "valid")

_TEST_SHARE = 0.25


def read_image_folder(
    folder: Path, image_size: tuple[int, int] | None
) -> tuple[tuple[Labelled, Labelled], tuple[str, ...]]:
    """Reads ``folder/<class>/*`` or ``folder/{train,test}/<class>/*``.

    Without a ``train`` folder, a fixed stratified quarter of the images is held out for testing.
    The test folder may also be called ``val`` or ``valid``.

    Args:
        folder: The folder.
        image_size: Resizes the images to (height, width) pixels.

    Returns:
        ((train images, labels), (test images, labels)) and the class names. Images are uint8
        (N, C, H, W), with C = 1 if all are grey and 3 otherwise; labels are (N,) int64.

    Raises:
        InputError: See [`load_data`][sdc_ext.data.load_data].
    """
    _check_folder(folder)
    if not (folder / "train").is_dir():
        images, labels, classes = read_class_folders(folder, image_size)
        train, test = stratified_split(labels, classes)
        return ((images[train], labels[train]), (images[test], labels[test])), classes
    test_folder = next((folder / n for n in _TEST_NAMES if (folder / n).is_dir()), None)
    if test_folder is None:
        raise InputError(
            f"{folder} has a train folder but no {' or '.join(_TEST_NAMES)} folder beside it: add "
            "one, or pass the train folder itself, of which a part is then held out"
        )
    files, classes = _list_classes(folder / "train")
    test_files, test_classes = _list_classes(test_folder)
    if classes != test_classes:
        odd = sorted(set(classes) ^ set(test_classes))
        raise InputError(
            f"class {odd[0]!r} is only in one of {folder / 'train'} and {test_folder}: add or "
            "remove its folder"
        )
    return _read_two(files, test_files, image_size), classes


def read_class_folders(
    folder: Path, image_size: tuple[int, int] | None = None
) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Reads ``folder/<class>/*``.

    Args:
        folder: The folder.
        image_size: Resizes the images to (height, width) pixels.

    Returns:
        Images (N, C, H, W) uint8, labels (N,) int64, and the class names.

    Raises:
        InputError: See [`load_data`][sdc_ext.data.load_data].
    """
    files, classes = _list_classes(folder)
    images, labels = _read(files, image_size)
    return images, labels, classes


def read_tiny_imagenet(
    folder: Path, image_size: tuple[int, int] | None
) -> tuple[tuple[Labelled, Labelled], tuple[str, ...]]:
    """Reads the unpacked archive ``tiny-imagenet-200`` (or the folder that holds it).

    The validation images are the test set, as in the original repositories.

    Args:
        folder: The folder.
        image_size: Resizes the images to (height, width) pixels.

    Returns:
        The same as ``read_image_folder``.

    Raises:
        InputError: If files are missing or damaged.
    """
    _check_folder(folder)
    if (folder / "tiny-imagenet-200").is_dir():
        folder = folder / "tiny-imagenet-200"
    annotations = folder / "val" / "val_annotations.txt"
    if not annotations.is_file() or not (folder / "train").is_dir():
        raise InputError(
            f"{folder} is not tiny-imagenet-200: unpack the archive of the Tiny ImageNet "
            "challenge, which has train/ and val/val_annotations.txt"
        )
    files, classes = _list_classes(folder / "train")
    label = {name: c for c, name in enumerate(classes)}
    test_files = []
    for line in annotations.read_text().splitlines():
        name, wnid = line.split("\t")[:2]
        if wnid not in label:
            raise InputError(
                f"{annotations} names class {wnid!r}, which train/ lacks: unpack the archive again"
            )
        test_files.append((folder / "val" / "images" / name, label[wnid]))
    return _read_two(files, test_files, image_size), classes


def stratified_split(labels: Tensor, classes: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Splits off a quarter of each class for testing, always the same one.

    Args:
        labels: Labels (N,), all of which occur.
        classes: A name for each label.

    Returns:
        The positions of the training part and of the test part, int64 and ascending.

    Raises:
        InputError: If a class has fewer than two images.
    """
    from sklearn.model_selection import train_test_split

    counts = torch.bincount(labels)
    if bool((counts < 2).any()):
        few = classes[int((counts < 2).nonzero()[0])]
        raise InputError(
            f"class {few!r} has fewer than 2 images, so none can be held out for testing: add "
            "images or a test folder"
        )
    held_out = max(len(counts), math.ceil(_TEST_SHARE * len(labels)))
    train, test = train_test_split(
        np.arange(len(labels)), test_size=held_out, stratify=labels.numpy(), random_state=0
    )
    return torch.from_numpy(np.sort(train)), torch.from_numpy(np.sort(test))


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: pass an existing one as `data_dir`")


def _list_classes(folder: Path) -> tuple[Files, tuple[str, ...]]:
    extensions = set(Image.registered_extensions())
    classes = sorted(d for d in folder.iterdir() if d.is_dir() and not d.name.startswith("."))
    if not classes:
        raise InputError(
            f"{folder} has no class folders: put the images of each class into a folder of its own"
        )
    files: Files = []
    for label, directory in enumerate(classes):
        found = sorted(p for p in directory.rglob("*") if p.suffix.lower() in extensions)
        if not found:
            raise InputError(f"class folder {directory} holds no images: add some or remove it")
        files += [(path, label) for path in found]
    return files, tuple(d.name for d in classes)


def _read_two(
    train: Files, test: Files, image_size: tuple[int, int] | None
) -> tuple[Labelled, Labelled]:
    images, labels = _read([*train, *test], image_size)
    n = len(train)
    return (images[:n], labels[:n]), (images[n:], labels[n:])


def _read(files: Files, image_size: tuple[int, int] | None) -> Labelled:
    with ThreadPoolExecutor() as pool:
        arrays = list(pool.map(lambda file: _decode(file[0], image_size), files))
    _check_sizes(arrays, [path for path, _ in files])
    channels = max(a.shape[0] for a in arrays)
    images = np.empty((len(arrays), channels, *arrays[0].shape[1:]), dtype=np.uint8)
    for i, array in enumerate(arrays):
        images[i] = array  # broadcasts a grey image over three channels
    return torch.from_numpy(images), torch.tensor([label for _, label in files])


def _decode(path: Path, image_size: tuple[int, int] | None) -> np.ndarray:
    try:
        with Image.open(path) as image:
            return as_array(image, image_size)
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
        raise InputError(f"cannot read image {path}: {error}; replace or delete it") from None


def as_array(image: Image.Image, image_size: tuple[int, int] | None = None) -> np.ndarray:
    """Returns a picture as uint8 (C, H, W), with C = 1 if it is grey and 3 otherwise.

    Args:
        image: The picture.
        image_size: Resizes it to (height, width) pixels.
    """
    picture = image.convert("L" if image.mode in ("1", "L") else "RGB")
    if image_size is not None:
        picture = picture.resize((image_size[1], image_size[0]), Image.Resampling.BILINEAR)
    array = np.asarray(picture)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def _check_sizes(arrays: Sequence[np.ndarray], paths: Sequence[Path]) -> None:
    first = arrays[0].shape[1:]
    for array, path in zip(arrays, paths, strict=True):
        if array.shape[1:] != first:
            raise InputError(
                f"images differ in size: {paths[0]} is {first[0]}x{first[1]} and {path} is "
                f"{array.shape[1]}x{array.shape[2]}; pass `image_size` to resize them"
            )

"""Reads image folders into memory: one folder per class, in any image format of Pillow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from sdc_ext._reading import content_of
from sdc_ext._words import number_of
from sdc_ext.data.pictures import Decoding, changes_note, is_picture, stacked
from sdc_ext.data.splits import stratified_split
from sdc_ext.errors import InputError

Labelled: TypeAlias = tuple[Tensor, Tensor]

# The names of the parts of published picture sets, in any case; those earlier are preferred.
_TRAIN_NAMES = ("train", "training")
_TEST_NAMES = ("test", "testing", "val", "valid", "validation")

_PICTURES = "pictures"

# What archivers and file managers leave behind.
_LITTER = ("__MACOSX", "Thumbs.db", "desktop.ini")


class Pictures(NamedTuple):
    """The pictures of a folder with one folder per class.

    Attributes:
        images: Images (N, C, H, W), with C = 1 if all are grey and 3 otherwise: uint8, or float32
            in [0, 1] if some have more than 8 bits.
        labels: Labels (N,), int64.
        classes: The names of the classes.
        note: What was skipped or converted, in one line.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    note: str


class TwoParts(NamedTuple):
    """A folder's training and test part, each as (images, labels); see ``Pictures``."""

    train: Labelled
    test: Labelled
    classes: tuple[str, ...]
    note: str


def read_image_folder(folder: Path, decoding: Decoding) -> TwoParts:
    """Reads ``folder/<class>/*`` or ``folder/{train,test}/<class>/*``.

    The parts may have any of the usual names in any case, such as ``Training`` and ``val``. Without
    a training folder, a fixed stratified quarter of the images is held out for testing.

    Args:
        folder: The folder.
        decoding: How pictures become pixels.

    Raises:
        InputError: See [`load_data`][sdc_ext.data.load_data].
    """
    _check_folder(folder)
    train_folder, test_folder = (_part(folder, names) for names in (_TRAIN_NAMES, _TEST_NAMES))
    if train_folder is None:
        found = read_class_folders(folder, decoding)
        train, test = (
            (found.images[index], found.labels[index])
            for index in stratified_split(found.labels, found.classes)
        )
        return TwoParts(train, test, found.classes, found.note)
    if test_folder is None:
        raise InputError(
            f"{folder} has a {train_folder.name} folder but no {' or '.join(_TEST_NAMES)} folder "
            "beside it: add one, or pass the training folder itself, of which a part is then held "
            "out"
        )
    listed, tested = _list_classes(train_folder), _list_classes(test_folder)
    if listed.classes != tested.classes:
        odd = sorted(set(listed.classes) ^ set(tested.classes))
        raise InputError(
            f"class {odd[0]!r} is only in one of {train_folder} and {test_folder}: add or remove "
            "its folder"
        )
    parts = (train_folder, test_folder)
    unused = [path.name for path in _folders(folder) if path not in parts]
    return _read_two(listed, tested, decoding, unused)


def read_class_folders(folder: Path, decoding: Decoding) -> Pictures:
    """Reads ``folder/<class>/*``.

    Args:
        folder: The folder.
        decoding: How pictures become pixels.

    Raises:
        InputError: See [`load_data`][sdc_ext.data.load_data].
    """
    listed = _list_classes(folder)
    images, changes = _read(listed.paths, decoding)
    return Pictures(images, listed.labels, listed.classes, _note(listed.skipped, changes))


def read_tiny_imagenet(folder: Path, decoding: Decoding) -> TwoParts:
    """Reads the unpacked archive ``tiny-imagenet-200`` (or the folder that holds it).

    The validation images are the test set, as in the original repositories.

    Args:
        folder: The folder.
        decoding: How pictures become pixels.

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
    listed = _list_classes(folder / "train")
    tested = _Listed(
        [
            (folder / "val" / "images" / name, label)
            for name, label in _annotated(annotations, listed.classes)
        ],
        listed.classes,
    )
    return _read_two(listed, tested, decoding)


def _annotated(path: Path, classes: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Yields the names and labels of the pictures that an annotation file lists."""
    label = {name: number for number, name in enumerate(classes)}
    for number, line in enumerate(content_of(path).decode(errors="replace").splitlines(), 1):
        name, _, rest = line.partition("\t")
        wnid = rest.partition("\t")[0]
        if wnid not in label:
            raise InputError(
                f"{path} names class {wnid!r} in line {number}, which train/ lacks: unpack the "
                "archive again"
            )
        yield name, label[wnid]


@dataclass(frozen=True)
class _Listed:
    """The files of class folders.

    Attributes:
        files: Paths with their labels.
        classes: The names of the classes.
        skipped: The numbers of files that are not read, by what they are.
    """

    files: Sequence[tuple[Path, int]]
    classes: tuple[str, ...]
    skipped: Counter[str] = field(default_factory=Counter)

    @property
    def paths(self) -> list[Path]:
        return [path for path, _ in self.files]

    @property
    def labels(self) -> Tensor:
        return torch.tensor([label for _, label in self.files])


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: pass an existing one as `data_dir`")


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not _is_hidden(path))


def _part(folder: Path, names: Sequence[str]) -> Path | None:
    """Returns the folder of a part of the data, which holds class folders itself."""
    known = {path.name.casefold(): path for path in _folders(folder) if _folders(path)}
    return next((known[name] for name in names if name in known), None)


def _is_hidden(path: Path) -> bool:
    return path.name.startswith(".") or path.name in _LITTER


def _list_classes(folder: Path) -> _Listed:
    classes = _folders(folder)
    if not classes:
        raise InputError(
            f"{folder} has no class folders: put the images of each class into a folder of its own"
        )
    files: list[tuple[Path, int]] = []
    skipped: Counter[str] = Counter()
    for label, directory in enumerate(classes):
        kinds = {path: _kind(path, directory) for path in sorted(directory.rglob("*"))}
        found = [path for path, kind in kinds.items() if kind == _PICTURES]
        if not found:
            raise InputError(f"class folder {directory} holds no images: add some or remove it")
        files += [(path, label) for path in found]
        skipped.update(kind for kind in kinds.values() if kind not in (_PICTURES, None))
    # Names that are not UTF-8 could not be stored with a set.
    names = (directory.name.encode("utf-8", "replace").decode() for directory in classes)
    return _Listed(files, tuple(names), skipped)


def _kind(path: Path, directory: Path) -> str | None:
    """Returns what a file in a class folder is, as notes call it; None for a folder."""
    if path.is_dir():
        return None
    if any(_is_hidden(Path(part)) for part in path.relative_to(directory).parts):
        return "hidden file"
    if path.is_file() and is_picture(path):
        return _PICTURES
    return "non-image file"


def _read_two(
    train: _Listed, test: _Listed, decoding: Decoding, unused: Sequence[str] = ()
) -> TwoParts:
    images, changes = _read([*train.paths, *test.paths], decoding)
    note = _note(train.skipped + test.skipped, changes, unused)
    n = len(train.files)
    return TwoParts((images[:n], train.labels), (images[n:], test.labels), train.classes, note)


def _note(skipped: Counter[str], changes: Counter[str], unused: Sequence[str] = ()) -> str:
    parts = [f"the folder {name} was not used" for name in unused]
    parts += [f"{number_of(count, what, 'were')} skipped" for what, count in skipped.items()]
    return "; ".join([*parts, *changes_note(changes)])


def _read(paths: Sequence[Path], decoding: Decoding) -> tuple[Tensor, Counter[str]]:
    with ThreadPoolExecutor() as pool:
        pictures = list(pool.map(decoding.read, paths))
    changes = Counter(change for picture in pictures for change in picture.changes)
    arrays = [picture.array for picture in pictures]
    if any(array.dtype != np.uint8 for array in arrays):
        changes += _scale(arrays)
    return stacked(arrays, paths), changes


def _scale(arrays: list[np.ndarray]) -> Counter[str]:
    """Makes all pictures float32 in [0, 1], in place, and returns what was done.

    Pictures of 32 bits have no range of their own: if some leave [0, 1], the range of all of them
    becomes [0, 1].
    """
    deep = [i for i, array in enumerate(arrays) if array.dtype != np.uint8]
    low = min(0.0, *(float(arrays[i].min()) for i in deep))
    high = max(1.0, *(float(arrays[i].max()) for i in deep))
    for i, array in enumerate(arrays):
        scaled = array / 255 if array.dtype == np.uint8 else (array - low) / (high - low)
        arrays[i] = scaled.astype(np.float32)
    outside = (low, high) != (0, 1)
    return Counter({f"scaled from {low:.4g} to {high:.4g}": len(deep)} if outside else {})

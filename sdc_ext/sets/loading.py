"""Loads distilled sets in any known format, together with the real data they belong to."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

from sdc_ext.data.load import DATASETS, takes_image_size
from sdc_ext.data.pictures import is_picture
from sdc_ext.data.real import RealData
from sdc_ext.errors import InputError
from sdc_ext.sets.formats.best import BEST, is_best_file, read_best
from sdc_ext.sets.formats.dd_ranking import read_dd_ranking
from sdc_ext.sets.formats.original_names import our_dataset
from sdc_ext.sets.formats.pictures import read_picture_folder
from sdc_ext.sets.formats.res import parse_res
from sdc_ext.sets.formats.tensors import load_tensors
from sdc_ext.sets.info import SetInfo, read_info
from sdc_ext.sets.synthetic_set import META, TENSORS, SyntheticSet

Kind = Literal["set", "best", "pictures", "file"]

# Loads the data set with a name, its images resized to (height, width) unless that is None.
Load: TypeAlias = Callable[[str, tuple[int, int] | None], RealData]

_LOG_FOLDERS = ("logged_files", "ema_logged_files")


@dataclass(frozen=True)
class Opening:
    """What the caller knows about sets, in addition to what their files say.

    Attributes:
        dataset: The name of the real data set; by default the one that a set names.
        image_size: Resizes the real images to (height, width) pixels; by default to the set's
            size.
        zca: Whether ``images_*.pt`` are ZCA-whitened, even if no file beside them says so.
        lr: The learning rate for training on sets; by default the one that their files name.
    """

    dataset: str | None = None
    image_size: tuple[int, int] | None = None
    zca: bool = False
    lr: float | None = None


def kind_of(path: Path) -> Kind:
    """Returns the kind of set at a path.

    Kinds are ``"set"`` (a folder that ``sdc-ext distill`` wrote), ``"best"`` (the files of MTT and
    its successors), ``"pictures"`` (folders of images) and ``"file"`` (another ``.pt`` file).
    """
    if is_best_file(path) or ((path / BEST).is_file() and not (path / TENSORS).is_file()):
        return "best"
    if path.suffix == ".pt":
        return "file"
    return "pictures" if _is_picture_folder(path) else "set"


def _is_picture_folder(path: Path) -> bool:
    """Returns whether all folders in a folder, or in its ``train``, hold images."""
    inner = path / "train" if (path / "train").is_dir() else path
    if (path / META).is_file() or not inner.is_dir():
        return False
    folders = [p for p in inner.iterdir() if p.is_dir() and not p.name.startswith(".")]
    return bool(folders) and all(any(map(is_picture, folder.iterdir())) for folder in folders)


def load_set(
    path: str | Path, data: RealData | None = None, *, zca: bool = False, lr: float | None = None
) -> SyntheticSet:
    """Reads a distilled set in any known format, without executing anything in its files.

    Args:
        path: A folder that ``sdc-ext distill`` wrote; ``res_*.pt`` of DC, DSA, DCC and DM;
            ``images_*.pt`` of MTT, TESLA, FTD and DATM, or the folder with ``images_best.pt``; a
            folder with one folder of pictures per class; or an export for DD-Ranking.
        data: The real data, which ``images_*.pt`` and pictures need.
        zca: Whether ``images_*.pt`` are ZCA-whitened, even if no file beside them says so.
        lr: The learning rate for training on the set; by default the one that its files name,
            which ``images_*.pt`` without an ``lr_*.pt`` beside them do not.

    Raises:
        InputError: If the path holds none of these, a file is damaged, or the data are missing or
            do not fit.
    """
    return _Source.of(Path(path)).read(data, zca=zca, lr=lr)


def open_set(path: str | Path, load: Load, opening: Opening = Opening()) -> SyntheticSet:
    """Reads a distilled set like ``load_set``, and loads the real data if its format needs them.

    Args:
        path: The path of the set.
        load: Loads the real data.
        opening: What the caller knows about the set.

    Raises:
        InputError: If [`load_set`][sdc_ext.load_set] raises it, or the data cannot be loaded.
    """
    return _open(Path(path), load, opening)[0]


def open_with_data(
    path: str | Path, load: Load, opening: Opening = Opening()
) -> tuple[SyntheticSet, RealData]:
    """Reads a distilled set and its real data, normalised as the set is.

    Args:
        path: The path of the set.
        load: Loads the real data; it is called once.
        opening: What the caller knows about the set.

    Raises:
        InputError: If the set or the data cannot be read, the data do not fit the set, or the set
            was made from data that have no loader.
    """
    synthetic, data = _open(Path(path), load, opening)
    if data is None:
        dataset = opening.dataset or synthetic.info.dataset
        if opening.dataset is None and dataset not in DATASETS:
            raise InputError(
                f"{path} was made from data called {dataset!r}, which have no loader: pass the "
                "folder with their pictures as `dataset`, or the data themselves from Python"
            )
        size = opening.image_size
        if size is None and takes_image_size(dataset):
            height, width = synthetic.images.shape[2:]
            size = height, width
        data = load(dataset, size)
    try:
        return synthetic, synthetic.adopt(data)
    except InputError as error:
        raise InputError(f"{path} does not fit: {error}") from None


def open_all(
    paths: Sequence[str | Path], load: Load, opening: Opening = Opening()
) -> Iterator[tuple[str, SyntheticSet, RealData]]:
    """Yields a short name, the set and its real data for each different path.

    Args:
        paths: The paths of the sets.
        load: Loads the real data; it is called once for data that several sets share.
        opening: What the caller knows about the sets.

    Raises:
        InputError: If [`open_with_data`][sdc_ext.sets.open_with_data] raises it.
    """
    once = [Path(path) for path in {os.path.realpath(path): path for path in paths}.values()]
    load = functools.cache(load)
    for name, path in zip(short_names(once), once, strict=True):
        yield name, *open_with_data(path, load, opening)


def short_names(paths: Sequence[Path]) -> list[str]:
    """Returns names of sets: their paths without the leading parts that all of them share."""
    parts = [Path(os.path.realpath(path)).parts for path in paths]
    if len(parts) == 1:
        return [parts[0][-1]]
    same = 0
    while len({p[same : same + 1] for p in parts}) == 1 and all(len(p) > same + 1 for p in parts):
        same += 1
    return ["/".join(p[same:]) for p in parts]


def _open(path: Path, load: Load, opening: Opening) -> tuple[SyntheticSet, RealData | None]:
    """Returns a set, and the real data if they were needed to read it."""
    source = _Source.of(path)
    dataset = opening.dataset or source.dataset
    needs_data = source.kind in ("best", "pictures") and dataset is not None
    data = load(str(dataset), opening.image_size) if needs_data else None
    return source.read(data, zca=opening.zca, lr=opening.lr), data


@dataclass(frozen=True)
class _Source:
    """The kind of set at a path, and the ``meta.json`` beside files of MTT and its successors."""

    path: Path
    kind: Kind
    beside: SetInfo | None

    @classmethod
    def of(cls, path: Path) -> _Source:
        """Examines a path; raises InputError if its ``meta.json`` is damaged."""
        if not os.path.lexists(path):
            raise InputError(f"there is no file or folder {path}")
        kind = kind_of(path)
        meta = (path if path.is_dir() else path.parent) / META
        beside = None
        if kind == "best" and meta.is_file():
            beside = read_info(meta, "delete it to read the tensors without it")
        return cls(path, kind, beside)

    @property
    def dataset(self) -> str | None:
        """The data set of a set whose own files do not name it; None if it is unknown.

        It is read from ``meta.json`` or from the folders of the original repositories, as in
        ``logged_files/CIFAR10/run``.
        """
        if self.beside is not None:
            return self.beside.dataset
        for parent, child in itertools.pairwise(Path(os.path.realpath(self.path)).parts):
            if parent in _LOG_FOLDERS:
                return our_dataset(child)
        return None

    def read(self, data: RealData | None, *, zca: bool, lr: float | None) -> SyntheticSet:
        """Reads the set; the arguments are those of ``load_set``."""
        synthetic = self._read(data, zca=zca, lr=lr)
        if lr is None:
            return synthetic
        info = synthetic.info
        return replace(synthetic, info=replace(info, evaluation=replace(info.evaluation, lr=lr)))

    def _read(self, data: RealData | None, *, zca: bool, lr: float | None) -> SyntheticSet:
        path = self.path
        if self.kind == "set":
            return SyntheticSet.load(path)
        if self.kind == "file":
            content = load_tensors(path)
            is_ranking = isinstance(content, dict) and "soft_labels" in content
            return (read_dd_ranking if is_ranking else parse_res)(content, path)
        if data is None:
            raise InputError(f"{path} does not say what it was made from: pass `dataset`")
        if self.kind == "pictures":
            return read_picture_folder(path, data)
        images = path / BEST if path.is_dir() else path
        return read_best(images, data, self.beside, zca=zca, lr=lr)

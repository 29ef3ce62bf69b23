"""Loads distilled sets in any known format, together with the real data they belong to."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sdc_ext._reading import each_once
from sdc_ext.data.load import DATASETS, takes_image_size
from sdc_ext.data.real import RealData
from sdc_ext.errors import InputError
from sdc_ext.sets.sources import Source, file_of
from sdc_ext.sets.strangers import Declared
from sdc_ext.sets.synthetic_set import SyntheticSet
from sdc_ext.sets.unnamed import Load, recognised_data

__all__ = [
    "Load",
    "Opening",
    "load_data_of",
    "load_set",
    "open_all",
    "open_set",
    "open_with_data",
    "short_names",
]


@dataclass(frozen=True)
class Opening(Declared):
    """What the caller knows about sets and their data, in addition to what their files say.

    Attributes:
        dataset: The name of the real data set; by default the one that a set names, or that it
            is recognised to be made from.
        image_size: Resizes the real images to (height, width) pixels; by default to the set's
            size.
    """

    dataset: str | None = None
    image_size: tuple[int, int] | None = None


def load_set(
    path: str | Path,
    data: RealData | None = None,
    *,
    zca: bool | None = None,
    lr: float | None = None,
    factor: int | None = None,
) -> SyntheticSet:
    """Reads a distilled set in any known format, without executing anything in its files.

    What the files leave open is decided by statistics of the images and labels. A warning is
    logged where they contradict what you say, which is done all the same.

    Args:
        path: A folder that ``sdc-ext distill`` wrote; ``res_*.pt`` of DC, DSA, DCC and DM;
            ``images_*.pt`` of MTT, TESLA, FTD, DATM, PAD and EDF, or the folder with
            ``images_best.pt``; ``data*.pt`` of IDC, DREAM and NCFM, or its folder; ``images.pt``
            of DD-Ranking's baselines, or its folder; a folder with one folder of pictures per
            class; or an export for DD-Ranking.
        data: The real data, which all formats need that do not describe themselves.
        zca: Whether images of a format that does not say so are ZCA-whitened; by default
            statistics decide.
        lr: The learning rate for training on the set; by default the one that its files name,
            which ``images_*.pt`` without an ``lr_*.pt`` beside them do not.
        factor: The number of parts per side of a stored image of IDC, DREAM or NCFM; by default
            the one that the path names, or that statistics show.

    Raises:
        InputError: If the path holds none of these, a file is damaged, the data are missing or
            do not fit, or neither files nor statistics say what has to be known.
    """
    return Source.of(Path(path)).read(data, Declared(zca, lr, factor))


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
        data = load_data_of(synthetic, path, load, opening)
    try:
        return synthetic, synthetic.adopt(data)
    except InputError as error:
        raise InputError(f"{path} does not fit: {error}") from None


def load_data_of(
    synthetic: SyntheticSet, name: str | Path, load: Load, opening: Opening = Opening()
) -> RealData:
    """Loads the real data of a set, resized to it if they can be.

    Args:
        synthetic: The set.
        name: What messages call it.
        load: Loads the real data.
        opening: What the caller knows about the set.

    Raises:
        InputError: If the data cannot be read or have no loader.
    """
    dataset = opening.dataset or synthetic.info.dataset
    if opening.dataset is None and dataset not in DATASETS:
        raise InputError(
            f"{name} was made from data called {dataset!r}, which have no loader: pass the folder "
            "with their pictures as `data`, or the data themselves from Python"
        )
    size = opening.image_size
    if size is None and takes_image_size(dataset):
        height, width = synthetic.images.shape[2:]
        size = height, width
    return load(dataset, size)


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
    once = [Path(path) for path in each_once(paths, file_of)]
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
    source = Source.of(path)
    dataset = opening.dataset or source.dataset
    data = None
    if source.needs_data and dataset is not None:
        data = load(dataset, opening.image_size)
    elif source.found is not None:
        data = recognised_data(source.found, load, opening)
    return source.read(data, opening), data

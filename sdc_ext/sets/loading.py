"""Distilled sets in anybody's format: told apart, read, and written."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from PIL import Image

from sdc_ext.data.real import RealData
from sdc_ext.errors import InputError
from sdc_ext.sets.formats.best import BEST, is_best_file, read_best
from sdc_ext.sets.formats.dd_ranking import read_dd_ranking
from sdc_ext.sets.formats.original_names import our_dataset
from sdc_ext.sets.formats.pictures import read_picture_folder
from sdc_ext.sets.formats.res import parse_res
from sdc_ext.sets.formats.tensors import load_tensors
from sdc_ext.sets.info import read_info
from sdc_ext.sets.synthetic_set import META, TENSORS, SyntheticSet

Kind = Literal["set", "best", "pictures", "file"]


_LOG_FOLDERS = ("logged_files", "ema_logged_files")


def kind_of(path: Path) -> Kind:
    """What a path holds: a set of ours, the MTT family's files, pictures, or another file."""
    if is_best_file(path) or ((path / BEST).is_file() and not (path / TENSORS).is_file()):
        return "best"
    if path.suffix == ".pt":
        return "file"
    return "pictures" if _is_picture_folder(path) else "set"


def _is_picture_folder(path: Path) -> bool:
    """Whether a folder, or its ``train``, holds nothing but folders of images."""
    inner = path / "train" if (path / "train").is_dir() else path
    if (path / META).is_file() or not inner.is_dir():
        return False
    folders = [p for p in inner.iterdir() if p.is_dir() and not p.name.startswith(".")]
    extensions = Image.registered_extensions()
    return bool(folders) and all(
        any(p.suffix.lower() in extensions for p in folder.iterdir()) for folder in folders
    )


def told_dataset(path: Path) -> str | None:
    """The data set that files of the MTT family come from, if it is told.

    By ``meta.json`` beside them, or by the originals' folders: ``logged_files/CIFAR10/run``.
    """
    beside = (path if path.is_dir() else path.parent) / META
    if beside.is_file():
        return read_info(beside).dataset
    parts = path.resolve().parts
    for parent, child in itertools.pairwise(parts):
        if parent in _LOG_FOLDERS:
            return our_dataset(child)
    return None


def load_any(
    path: Path, data: RealData | None = None, *, zca: bool = False, lr: float | None = None
) -> SyntheticSet:
    """Reads a distilled set, ours or somebody else's; executes nothing in it.

    Args:
        path: a folder that ``sdc-ext distill`` wrote; a ``res_*.pt``; ``images_*.pt`` or the
            folder of ``images_best.pt``; a folder of class folders with pictures; or what
            :func:`write_dd_ranking` wrote.
        data: the real data, which the third and the fourth of them need.
        zca: see :func:`~sdc_ext.sets.formats.best.read_best`.
        lr: likewise.

    Raises:
        InputError: if it is none of these, or damaged, or the data are missing or do not fit.
    """
    kind = kind_of(path)
    if kind == "set":
        return SyntheticSet.load(path)
    if kind == "file":
        content = load_tensors(path)
        is_ranking = isinstance(content, dict) and "soft_labels" in content
        return (read_dd_ranking if is_ranking else parse_res)(content, path)
    if data is None:
        raise InputError(f"{path} does not say what it was made from: pass --dataset NAME")
    if kind == "pictures":
        return read_picture_folder(path, data)
    return read_best(path / BEST if path.is_dir() else path, data, zca=zca, lr=lr)


def short_names(paths: Sequence[Path]) -> list[str]:
    """Names of sets without what their paths have in common at the front."""
    parts = [path.resolve().parts for path in paths]
    if len(parts) == 1:
        return [parts[0][-1]]
    same = 0
    while len({p[same : same + 1] for p in parts}) == 1 and all(len(p) > same + 1 for p in parts):
        same += 1
    return ["/".join(p[same:]) for p in parts]

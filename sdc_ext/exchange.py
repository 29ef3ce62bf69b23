"""Distilled sets in anybody's format: told apart, read, and written."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from PIL import Image

from sdc_ext.best_files import BEST, is_best_file, read_best, read_info, write_best
from sdc_ext.data import RealData
from sdc_ext.dd_ranking import read_dd_ranking, write_dd_ranking
from sdc_ext.errors import InputError
from sdc_ext.originals import original_name, our_dataset, parse_res, write_res
from sdc_ext.picture_folder import read_picture_folder, write_picture_folder
from sdc_ext.synthetic import META, TENSORS, SyntheticSet
from sdc_ext.tensor_files import load_tensors

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
        zca: see :func:`~sdc_ext.best_files.read_best`.
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


def _write_res(synthetic: SyntheticSet, path: Path) -> None:
    write_res([synthetic], path)


FORMATS: dict[str, Callable[[SyntheticSet, Path], None]] = {
    "res": _write_res,
    "best": write_best,
    "pictures": write_picture_folder,
    "dd-ranking": write_dd_ranking,
}


def default_name(synthetic: SyntheticSet, fmt: str) -> str:
    """What an export is called unless the user says otherwise."""
    res = original_name(synthetic.info)
    if fmt == "res":
        return res
    stem = f"{fmt}_{Path(res).stem.removeprefix('res_')}"
    return f"{stem}.pt" if fmt == "dd-ranking" else stem

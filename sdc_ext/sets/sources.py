"""Recognises the format of what lies at a path, and reads it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from sdc_ext.data.pictures import is_picture
from sdc_ext.data.real import RealData
from sdc_ext.errors import InputError
from sdc_ext.sets.checks import warn
from sdc_ext.sets.formats.best import check_picture, find_best, read_best, read_exported
from sdc_ext.sets.formats.dd_ranking import read_dd_ranking
from sdc_ext.sets.formats.original_names import our_dataset
from sdc_ext.sets.formats.pairs import is_pair, is_pair_file, pair_file, parse_pair
from sdc_ext.sets.formats.pictures import read_picture_folder
from sdc_ext.sets.formats.released import IMAGES, read_released, released_file
from sdc_ext.sets.formats.res import parse_res
from sdc_ext.sets.formats.tensors import load_tensors
from sdc_ext.sets.info import SetInfo, read_info
from sdc_ext.sets.rates import warning_about
from sdc_ext.sets.strangers import Declared, Found, study
from sdc_ext.sets.synthetic_set import META, TENSORS, SyntheticSet

Kind = Literal["set", "best", "pair", "released", "pictures", "file"]

_LOG_FOLDERS = ("logged_files", "ema_logged_files")

# Further up, folders are the user's own.
_NAMING_FOLDERS = 6


def format_of(path: Path) -> Kind:
    """Returns the kind of set at a path.

    Kinds are ``"set"`` (a folder that ``sdc-ext distill`` wrote), ``"best"`` (the files of MTT and
    its successors), ``"pair"`` (those of IDC, DREAM and NCFM), ``"released"`` (those of
    DD-Ranking's baselines), ``"pictures"`` (folders of images) and ``"file"`` (another ``.pt``
    file).
    """
    if (path / TENSORS).is_file():
        return "set"
    if find_best(path) is not None:
        return "best"
    if path.name == IMAGES or (path / IMAGES).is_file():
        return "released"
    if is_pair_file(path) or pair_file(path) is not None:
        return "pair"
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


def file_of(path: Path) -> Path:
    """Returns the file with the images of the set at a path, or the path if it has many.

    Raises:
        InputError: If there is nothing, or its ``meta.json`` is damaged.
    """
    return Source.of(path).file


@dataclass(frozen=True)
class Source:
    """What lies at a path: its kind, and the ``meta.json`` beside files of MTT and its successors.

    Attributes:
        path: The path that the user named.
        kind: The kind of set.
        file: The file with the images, of kinds that have one.
        beside: The content of ``meta.json``.
    """

    path: Path
    kind: Kind
    file: Path
    beside: SetInfo | None

    @classmethod
    def of(cls, path: Path) -> Source:
        """Examines a path; raises InputError if its ``meta.json`` is damaged."""
        if not os.path.lexists(path):
            raise InputError(f"there is no file or folder {path}")
        kind = format_of(path)
        within = {"best": find_best, "pair": pair_file, "released": released_file}.get(kind)
        file = path if within is None else within(path) or path
        meta = file.parent / META
        beside = None
        if kind == "best" and meta.is_file():
            beside = read_info(meta, "delete it to read the tensors without it")
        return cls(path, kind, file, beside)

    @cached_property
    def _content(self) -> Any:
        return load_tensors(self.file)

    @cached_property
    def found(self) -> Found | None:
        """The tensors of a set that does not describe itself; None for other sets.

        Raises:
            InputError: If a file is missing, damaged, or holds something else.
        """
        if self.kind == "released":
            return read_released(self.file)
        if self.kind == "best":
            return read_best(self.file) if self.beside is None else None
        if self.kind in ("pair", "file") and is_pair(self._content):
            return parse_pair(self._content, self.file)
        return None

    @property
    def layout(self) -> str:
        """The name of the format, for people."""
        if self.kind == "set":
            return "folder of sdc-ext"
        if self.kind == "pictures":
            return "folder of pictures"
        if self.beside is not None:
            return "export of sdc-ext in the format best"
        if self.found is not None:
            return self.found.layout
        return "export for DD-Ranking" if self._is_ranking else "DC, DSA, DCC or DM"

    @property
    def _is_ranking(self) -> bool:
        return isinstance(self._content, dict) and "soft_labels" in self._content

    @property
    def needs_data(self) -> bool:
        """Whether the real data are needed to read the set."""
        return self.kind in ("best", "pictures") or self.found is not None

    @property
    def dataset(self) -> str | None:
        """The data set of a set whose own files do not name it; None if it is unknown.

        It is read from ``meta.json`` or from the folders of the original repositories, as in
        ``logged_files/CIFAR10/run``, ``results/cifar10/...`` and ``DATM/CIFAR10/IPC10``.
        """
        if self.beside is not None:
            return self.beside.dataset
        parts = Path(os.path.realpath(self.path)).parts
        for parent, child in itertools.pairwise(parts):
            if parent in _LOG_FOLDERS:
                return our_dataset(child)
        if self.kind not in ("pair", "released"):
            return None
        named = [our_dataset(part) for part in reversed(parts[-_NAMING_FOLDERS:])]
        return next((name for name in named if name is not None), None)

    def read(self, data: RealData | None, declared: Declared) -> SyntheticSet:
        """Reads the set, without executing anything in its files.

        Args:
            data: The real data, if ``needs_data``.
            declared: What the user says of the set.

        Raises:
            InputError: If a file is damaged, the data are missing or do not fit, or something is
                open that the user has to say.
        """
        if declared.factor is not None and not (self.found and self.found.has_factor):
            raise InputError(f"{self.path} says its factor itself, or has none: leave `factor` out")
        if self.needs_data and data is None:
            raise InputError(f"{self.path} does not say what it was made from: pass `data`")
        if self.found is not None and data is not None:
            synthetic = study(self.found, data, declared).build()
            if self.kind == "best":
                check_picture(self.file, synthetic)
            return synthetic
        return self._declared(self._described(data, declared), declared)

    def _described(self, data: RealData | None, declared: Declared) -> SyntheticSet:
        """Reads a set that describes itself."""
        if self.kind == "set":
            return SyntheticSet.load(self.path)
        if self.kind == "file" or data is None:
            parse: Callable[[Any, Path], SyntheticSet] = (
                read_dd_ranking if self._is_ranking else parse_res
            )
            return parse(self._content, self.path)
        if self.kind == "pictures" or self.beside is None:
            return read_picture_folder(self.path, data)
        return read_exported(self.file, data, self.beside, zca=declared.zca)

    def _declared(self, synthetic: SyntheticSet, declared: Declared) -> SyntheticSet:
        """Returns a set with the rate that the user declares, after warnings."""
        info, lines = synthetic.info, []
        if declared.zca is not None and declared.zca != (info.whitening is not None):
            state = "not ZCA-whitened" if info.whitening is None else "ZCA-whitened"
            lines.append(f"its own description says that it is {state}, which is what counts")
        if declared.lr is not None:
            lines += warning_about(declared.lr, info.evaluation.lr)
            recipe = replace(info.evaluation, lr=declared.lr)
            synthetic = replace(synthetic, info=replace(info, evaluation=recipe))
        warn(self.path, lines)
        return synthetic

"""Reads the files of IDC, DREAM and NCFM: a list of pixels and classes, and a factor in the path.

``data.pt`` (IDC), ``data2000.pt`` (DREAM) and ``distilled_data/data_20000.pt`` (NCFM) hold a list
of the stored images, as pixels in [0, 1] that nothing bounds, and their classes. The data set and
the factor are parts of the path, as in ``results/cifar10/conv3in_..._factor2_..._ipc10/data.pt``.

Reference: ``condense.py`` of IDC's and DREAM's repositories, ``utils/ddp.py`` of NCFM's.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from torch import Tensor

from sdc_ext.data.known import STATISTICS
from sdc_ext.data.preprocessing import Preprocessing
from sdc_ext.errors import InputError
from sdc_ext.sets.strangers import Found
from sdc_ext.training.protocols import Subject, protocol
from sdc_ext.training.recipe import TrainingRecipe

_NAME = re.compile(r"data(?P<line>_?)(?P<which>\d+|init|)\.pt")

_FACTOR = re.compile(r"factor(\d+)")

# Where NCFM's script puts its files, below the folder of a run.
_INNER = "distilled_data"

# Both projects normalise CIFAR-100 by the statistics of CIFAR-10.
_STATISTICS = {**STATISTICS, "cifar100": STATISTICS["cifar10"]}


def is_pair_file(path: Path) -> bool:
    """Returns whether a file's name is like those of IDC, DREAM and NCFM."""
    return _NAME.fullmatch(path.name) is not None


def pair_file(folder: Path) -> Path | None:
    """Returns the last file of IDC's, DREAM's or NCFM's script in a folder; None without one."""
    inner = folder / _INNER if (folder / _INNER).is_dir() else folder
    named = [(_NAME.fullmatch(path.name), path) for path in inner.glob("data*.pt")]
    files = {(_iteration(match["which"]), path) for match, path in named if match is not None}
    return max(files)[1] if files else None


def is_pair(content: Any) -> bool:
    """Returns whether the content of a file is a list of images and labels."""
    return (
        isinstance(content, list | tuple)
        and len(content) == 2
        and all(isinstance(part, Tensor) for part in content)
    )


def parse_pair(content: Any, path: Path) -> Found:
    """Returns what a file with a list of images and labels holds.

    Args:
        content: The content of the file.
        path: Its path, from which the method and the factor are read.

    Raises:
        InputError: If the images are no images, or the path names two factors.
    """
    images, labels = (part.detach() for part in content)
    method = _method(path)
    factors = {int(found) for found in _FACTOR.findall("/".join(path.absolute().parts[-4:]))}
    if len(factors) > 1:
        raise InputError(
            f"the path {path} names the factors {sorted(factors)}: pass the right one as `factor`"
        )

    def recipe(subject: Subject) -> TrainingRecipe:
        return _of_ncfm(subject) if method == "ncfm" else protocol("idc", subject)

    return Found(
        path,
        layout={"idc": "IDC", "dream": "DREAM", "ncfm": "NCFM"}[method],
        method=method,
        images=images,
        labels=labels,
        recipe=recipe,
        rate=0.001 if method == "ncfm" else 0.01,
        pixels=True,
        factor=next(iter(factors), None),
        has_factor=True,
        statistics={name: Preprocessing(*values) for name, values in _STATISTICS.items()},
    )


def _of_ncfm(subject: Subject) -> TrainingRecipe:
    """Returns how NCFM's configurations of small images evaluate sets.

    The script halves the rate after each fifth of the epochs; the nearest schedule here drops it
    fivefold twice.

    Source: ``config/ipc10/cifar10.yaml``; ``condenser/evaluate.py``.
    """
    return TrainingRecipe(
        300 if subject.dataset == "tinyimagenet" else 2000,
        lr=0.001,
        weight_decay=0.01,
        batch_size=128,
        augmentation="idc:color_crop_cutout_flip_scale_rotate",
        optimizer="adamw",
        schedule="multistep",
        mix="cutmix:p=0.5",
    )


def _method(path: Path) -> str:
    named = _NAME.fullmatch(path.name)
    if named is None or not named["which"]:
        return "idc"
    return "ncfm" if named["line"] else "dream"


def _iteration(which: str) -> float:
    """Returns the order of files in a folder: ``init`` comes first, no number last."""
    if which == "init":
        return -1.0
    return float(which) if which else float("inf")

"""Reads and writes ``images_best.pt`` and its companions, the files of MTT and its successors.

``images_*.pt``, ``labels_*.pt`` and ``lr_*.pt`` hold nothing but tensors. What else is needed to
evaluate them comes from statistics (whitening, kind of labels), from the real data and from the
original scripts (augmentation, epochs), unless there is a ``meta.json`` beside them, as
``write_best`` writes it. MTT, TESLA, FTD, DATM, PAD and EDF have this layout.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from sdc_ext._files import as_tensors, as_text, write_files
from sdc_ext.data.real import RealData
from sdc_ext.errors import InputError
from sdc_ext.sets.checks import check_tensors
from sdc_ext.sets.formats.tensors import as_rate, load_tensor
from sdc_ext.sets.info import SetInfo
from sdc_ext.sets.recognition.labels import as_labels, recognise_labels
from sdc_ext.sets.strangers import Found
from sdc_ext.sets.synthetic_set import META, SyntheticSet
from sdc_ext.training.protocols import protocol

BEST = "images_best.pt"

_NORMAL = "Normal"

_NAME = re.compile(r"(?P<average>ema_)?images_(?P<which>best|\d+)\.pt")


# The largest allowed difference between a picture's pixels and those of the whitened images.
_PICTURE_ERROR = 0.01


def is_best_file(path: Path) -> bool:
    """Returns whether a file's name is like ``images_best.pt`` or ``ema_images_500.pt``."""
    return _NAME.fullmatch(path.name) is not None


def find_best(path: Path) -> Path | None:
    """Returns the file with the images of MTT or a successor at a path; None without one.

    DATM, PAD and EDF write theirs to the folder ``Normal`` of a run.
    """
    if is_best_file(path):
        return path
    found = (path / BEST, path / _NORMAL / BEST)
    return next((file for file in found if file.is_file()), None)


def read_best(path: Path) -> Found:
    """Reads ``images_*.pt`` with what lies beside it, without executing anything in the files.

    If the folder has an ``images_zca_*.pt``, the images are ZCA-whitened. Only DATM, PAD and EDF
    save a learning rate.

    Args:
        path: The file with the images.

    Raises:
        InputError: If a file is missing or holds something else.
    """
    beside = _Beside.of(path)
    labels = load_tensor(beside.labels)
    lr = as_rate(beside.rate) if beside.rate.is_file() else None
    logits = labels.ndim == 2
    return Found(
        path,
        layout="DATM, PAD or EDF" if logits and lr is not None else "MTT, TESLA or FTD",
        images=load_tensor(path),
        labels=labels,
        recipe=partial(protocol, "mtt"),
        rate=None,
        lr=lr,
        zca=True if beside.whitened else None,
    )


def read_exported(
    path: Path, data: RealData, known: SetInfo, *, zca: bool | None = None
) -> SyntheticSet:
    """Reads ``images_*.pt`` with the ``meta.json`` that ``write_best`` wrote beside it.

    Args:
        path: The file with the images.
        data: The real data, normalised by their channel statistics.
        known: The content of ``meta.json``.
        zca: Whether the images are ZCA-whitened, even if there is no ``images_zca_*.pt``.

    Raises:
        InputError: If a file is missing or holds something else, or the images do not fit the data
            or are whitened by other training images.
    """
    beside = _Beside.of(path)
    images = load_tensor(path).float()
    rows = load_tensor(beside.labels)
    if beside.whitened if zca is None else zca:
        data = data.whitened()
    labels = as_labels(rows, recognise_labels(rows)) if len(rows) else rows
    check_tensors(images, labels, known, str(path))
    synthetic = SyntheticSet.of(images, labels, known, data)
    check_picture(path, synthetic)
    return synthetic


def check_picture(path: Path, synthetic: SyntheticSet) -> None:
    """Checks whitened images against the pixels that their script may have written beside them.

    Args:
        path: The file with the images.
        synthetic: The set.

    Raises:
        InputError: If they were whitened by other training images.
    """
    picture = _Beside.of(path).picture
    if synthetic.unwhitened is not None and picture.is_file():
        _check_picture(synthetic.unwhitened, load_tensor(picture), picture)


def write_best(synthetic: SyntheticSet, folder: Path) -> None:
    """Writes ``images_best.pt``, ``labels_best.pt`` and ``lr_best.pt``, as MTT's script does.

    Networks are trained on ``images_best.pt``. If its images are whitened, ``images_zca_best.pt``
    has their pixels. Labels are classes, or soft labels in the form of the original scripts, i.e.
    logits for DATM and probabilities otherwise. ``meta.json`` holds the rest. Images are decoded.
    """
    synthetic = synthetic.decoded()
    labels = synthetic.labels
    are_logits = labels.ndim == 2 and synthetic.info.method == "datm"
    tensors = {
        "images": synthetic.images,
        "labels": labels.log() if are_logits else labels,
        "lr": torch.tensor(synthetic.info.evaluation.lr),
        "images_zca": synthetic.unwhitened,
    }
    files = {
        f"{name}_best.pt": as_tensors(tensor)
        for name, tensor in tensors.items()
        if tensor is not None
    }
    write_files(folder, files | {META: as_text(synthetic.info.to_json())})


@dataclass(frozen=True)
class _Beside:
    """The paths of the files that belong to one with images."""

    labels: Path
    rate: Path
    picture: Path
    whitened: bool

    @classmethod
    def of(cls, path: Path) -> _Beside:
        named = _NAME.fullmatch(path.name)
        if named is None:
            raise InputError(
                f"{path} is not named images_best.pt or images_<iteration>.pt: give it such a name"
            )
        which, folder = named["which"], path.parent
        return cls(
            labels=folder / f"{named['average'] or ''}labels_{which}.pt",
            rate=folder / f"lr_{which}.pt",
            picture=folder / f"images_zca_{which}.pt",
            whitened=any(folder.glob("images_zca_*.pt")),
        )


def _check_picture(pixels: Tensor, picture: Tensor, path: Path) -> None:
    if pixels.shape != picture.shape or (pixels - picture).abs().max() > _PICTURE_ERROR:
        raise InputError(
            f"the images are ZCA-whitened by other training images than those given, or differ "
            f"from {path.name}: pass the complete data set that they were made from"
        )

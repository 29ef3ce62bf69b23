"""Reads and writes ``images_best.pt`` and its companions, the files of MTT and its successors.

``images_*.pt``, ``labels_*.pt`` and ``lr_*.pt`` hold nothing but tensors. What else is needed to
evaluate them comes from the real data (data set, preprocessing) and from the original scripts
(augmentation, epochs), unless there is a ``meta.json`` beside them, as ``write_best`` writes it.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from sdc_ext._files import as_tensors, as_text, write_files
from sdc_ext._values import LearntRate, kind_of
from sdc_ext._words import number_of
from sdc_ext.data.real import RealData
from sdc_ext.errors import InputError
from sdc_ext.sets.checks import check_tensors
from sdc_ext.sets.formats.original_names import recipe_of_originals
from sdc_ext.sets.formats.tensors import load_tensors
from sdc_ext.sets.info import SetInfo
from sdc_ext.sets.synthetic_set import META, SyntheticSet

BEST = "images_best.pt"

_NAME = re.compile(r"(?P<average>ema_)?images_(?P<which>best|\d+)\.pt")


# The largest allowed difference between a picture's pixels and those of the whitened images.
_PICTURE_ERROR = 0.01


def is_best_file(path: Path) -> bool:
    """Returns whether a file's name is like ``images_best.pt`` or ``ema_images_500.pt``."""
    return _NAME.fullmatch(path.name) is not None


def read_best(
    path: Path,
    data: RealData,
    known: SetInfo | None = None,
    *,
    zca: bool = False,
    lr: float | None = None,
) -> SyntheticSet:
    """Reads ``images_*.pt`` with the labels and the learning rate beside it.

    Nothing in the files is executed. Labels are classes if they have one dimension. Rows of
    probabilities are soft labels (TESLA), and other rows are their logits (DATM). If the folder
    has an ``images_zca_*.pt``, the images are ZCA-whitened.

    Args:
        path: The file with the images.
        data: The real data, normalised by their channel statistics.
        known: The content of the ``meta.json`` beside the file, if there is one.
        zca: Whether the images are ZCA-whitened, even if there is no ``images_zca_*.pt``.
        lr: The learning rate for training on the set. It is needed where there is no
            ``lr_*.pt``, which only DATM saves.

    Raises:
        InputError: If a file is missing or holds something else, the learning rate is unknown, or
            the images do not fit the data or are whitened by other training images.
    """
    named = _NAME.fullmatch(path.name)
    if named is None:
        raise InputError(
            f"{path} is not named images_best.pt or images_<iteration>.pt: give it such a name"
        )
    which, folder = named["which"], path.parent
    images = _tensor(path).float()
    shape = (data.channels, *data.image_size)
    if images.ndim != 4 or images.shape[1:] != shape or not len(images):
        raise InputError(
            f"{path} has the shape {tuple(images.shape)}: {data.name} needs images "
            f"(N, {', '.join(map(str, shape))}), so pass the data set that they were made from"
        )
    labels_path = folder / f"{named['average'] or ''}labels_{which}.pt"
    labels = _as_labels(_tensor(labels_path), labels_path, len(images), len(data.classes))
    if zca or any(folder.glob("images_zca_*.pt")):
        data = data.whitened()
    info = known
    if info is None:
        rate = _rate(folder / f"lr_{which}.pt") if lr is None else lr
        recipe = replace(recipe_of_originals("dsa", data.name), lr=rate, align_corners=True)
        hard = labels if labels.ndim == 1 else labels.argmax(1)
        info = SetInfo.of_data(data, hard, recipe)
    check_tensors(images, labels, info, str(path))
    synthetic = SyntheticSet.of(images, labels, info, data)
    picture = folder / f"images_zca_{which}.pt"
    if synthetic.unwhitened is not None and picture.is_file():
        _check_picture(synthetic.unwhitened, _tensor(picture), picture)
    return synthetic


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


def _tensor(path: Path) -> Tensor:
    content = load_tensors(path)
    if not isinstance(content, Tensor):
        raise InputError(
            f"{path} does not hold a single tensor: pass a file that MTT's script or one of its "
            "successors wrote"
        )
    return content.detach()


def _as_labels(labels: Tensor, path: Path, count: int, classes: int) -> Tensor:
    """Returns classes (N,) int64, or probabilities (N, classes)."""
    if labels.shape not in ((count,), (count, classes)) or not bool(labels.isfinite().all()):
        raise InputError(
            f"{path} has the shape {tuple(labels.shape)}: {number_of(count, 'image')} must have "
            f"finite labels of shape {(count,)} or {(count, classes)}"
        )
    if labels.ndim == 1:
        hard = labels.long()
        if not bool(((hard >= 0) & (hard < classes) & (hard == labels)).all()):
            raise InputError(
                f"{path} holds labels that are not classes from 0 to {classes - 1}: pass the data "
                "set that they belong to"
            )
        return hard
    labels = labels.float()
    sums = labels.sum(1)
    is_probability = bool((labels >= 0).all()) and torch.allclose(sums, torch.ones_like(sums))
    return labels if is_probability else labels.softmax(1)


def _rate(path: Path) -> float:
    if not path.is_file():
        raise InputError(
            f"there is no {path.name} with the learning rate beside the images: pass the learnt "
            "syn_lr as `lr_eval`, or 0.01 if none was learnt"
        )
    tensor = _tensor(path)
    rate = kind_of(LearntRate).accept(float(tensor)) if tensor.numel() == 1 else None
    if rate is None:
        raise InputError(f"{path} holds no learning rate above 0: pass one as `lr_eval`")
    return float(rate)


def _check_picture(pixels: Tensor, picture: Tensor, path: Path) -> None:
    if pixels.shape != picture.shape or (pixels - picture).abs().max() > _PICTURE_ERROR:
        raise InputError(
            f"the images are ZCA-whitened by other training images than those given, or differ "
            f"from {path.name}: pass the complete data set that they were made from"
        )

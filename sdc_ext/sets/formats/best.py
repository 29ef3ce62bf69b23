"""``images_best.pt``, ``labels_best.pt`` and ``lr_best.pt``: the files of MTT and its successors.

They hold tensors alone. What else evaluating them takes, the data set, its preprocessing, the
augmentation, is told by the real data and by the originals' scripts, unless ``meta.json`` lies
beside them, which ``write_best`` leaves.
"""

from __future__ import annotations

import functools
import re
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from sdc_ext._files import write_whole
from sdc_ext.data.real import RealData
from sdc_ext.errors import InputError
from sdc_ext.sets.formats.original_names import recipe_of_originals
from sdc_ext.sets.formats.tensors import load_tensors
from sdc_ext.sets.info import SetInfo
from sdc_ext.sets.synthetic_set import META, SyntheticSet

BEST = "images_best.pt"

_NAME = re.compile(r"(?P<average>ema_)?images_(?P<which>best|\d+)\.pt")


# How far pictures may be from the whitened images they were made from.
_PICTURE_ERROR = 0.01


def is_best_file(path: Path) -> bool:
    """Whether a file is named as these are: ``images_best.pt``, ``ema_images_500.pt``."""
    return _NAME.fullmatch(path.name) is not None


def read_best(
    path: Path,
    data: RealData,
    known: SetInfo | None = None,
    *,
    zca: bool = False,
    lr: float | None = None,
) -> SyntheticSet:
    """Reads ``images_*.pt`` with the labels and the rate beside it; executes nothing in them.

    Whole numbers are classes; rows of probabilities are soft labels (TESLA), other rows their
    logits (DATM). An ``images_zca_*.pt`` in the folder says that the images are ZCA-whitened.

    Args:
        path: the images' file.
        data: the real data, normalised as usual.
        known: what lies beside it in ``meta.json``, if ``write_best`` wrote it.
        zca: the images are whitened, though no ``images_zca_*.pt`` says so.
        lr: the rate to train with; needed where there is no ``lr_*.pt``, which only DATM saves.

    Raises:
        InputError: if a file is missing or something else, the rate is not known, or the images
            do not fit the data or are whitened by other training images.
    """
    named = _NAME.fullmatch(path.name)
    if named is None:
        raise InputError(f"{path} is not named images_best.pt or images_<iteration>.pt")
    which, folder = named["which"], path.parent
    images = _tensor(path).float()
    labels_path = folder / f"{named['average'] or ''}labels_{which}.pt"
    labels = _as_labels(_tensor(labels_path), labels_path, len(images), len(data.classes))
    shape = (data.channels, *data.image_size)
    if images.shape[1:] != shape or not bool(images.isfinite().all()):
        raise InputError(
            f"{path} holds {tuple(images.shape)}: finite images (N, {', '.join(map(str, shape))}) "
            f"fit {data.name}"
        )
    if zca or any(folder.glob("images_zca_*.pt")):
        data = data.whitened()
    info = known
    if info is None:
        rate = _rate(folder / f"lr_{which}.pt") if lr is None else lr
        recipe = replace(recipe_of_originals("dsa", data.name), lr=rate, align_corners=True)
        hard = labels if labels.ndim == 1 else labels.argmax(1)
        info = SetInfo.of_data(data, hard, recipe)
    synthetic = SyntheticSet.of(images, labels, info, data)
    picture = folder / f"images_zca_{which}.pt"
    if synthetic.unwhitened is not None and picture.is_file():
        _check_picture(synthetic.unwhitened, _tensor(picture), picture)
    return synthetic


def write_best(synthetic: SyntheticSet, folder: Path) -> None:
    """Writes ``images_best.pt``, ``labels_best.pt`` and ``lr_best.pt``, as the MTT family does.

    Images that are whitened are joined by ``images_zca_best.pt``, which is the picture; it is
    ``images_best.pt`` that networks are trained on. Labels are classes, or what the originals
    make of soft ones: TESLA probabilities, DATM logits. ``meta.json`` holds the rest.
    """
    labels = synthetic.labels
    are_logits = labels.ndim == 2 and synthetic.info.method == "datm"
    tensors = {
        "images": synthetic.images,
        "labels": labels.log() if are_logits else labels,
        "lr": torch.tensor(synthetic.info.evaluation.lr),
        "images_zca": synthetic.unwhitened,
    }
    for name, tensor in tensors.items():
        if tensor is not None:
            write_whole(folder / f"{name}_best.pt", functools.partial(torch.save, tensor))
    write_whole(folder / META, lambda path: path.write_text(synthetic.info.to_json()))


def _tensor(path: Path) -> Tensor:
    content = load_tensors(path)
    if not isinstance(content, Tensor):
        raise InputError(f"{path} holds no tensor: the originals' files hold one each")
    return content.detach()


def _as_labels(labels: Tensor, path: Path, count: int, classes: int) -> Tensor:
    """Classes (N,) or probabilities (N, classes)."""
    if labels.shape not in ((count,), (count, classes)) or not bool(labels.isfinite().all()):
        raise InputError(
            f"{path} holds {tuple(labels.shape)}: {count} finite labels are needed, one class or "
            f"{classes} numbers each"
        )
    if labels.ndim == 1:
        hard = labels.long()
        if not bool(((hard >= 0) & (hard < classes) & (hard == labels)).all()):
            raise InputError(f"{path} holds labels that are no classes from 0 to {classes - 1}")
        return hard
    labels = labels.float()
    sums = labels.sum(1)
    is_probability = bool((labels >= 0).all()) and torch.allclose(sums, torch.ones_like(sums))
    return labels if is_probability else labels.softmax(1)


def _rate(path: Path) -> float:
    if not path.is_file():
        raise InputError(
            f"there is no {path.name} with the learning rate beside the images: pass --lr-eval "
            "with the syn_lr that was learnt, or 0.01 if none was"
        )
    tensor = _tensor(path)
    if tensor.numel() != 1 or not 0 < float(tensor) < float("inf"):
        raise InputError(f"{path} holds no learning rate above 0: pass --lr-eval")
    return float(tensor)


def _check_picture(pixels: Tensor, picture: Tensor, path: Path) -> None:
    if pixels.shape != picture.shape or (pixels - picture).abs().max() > _PICTURE_ERROR:
        raise InputError(
            f"the images are ZCA-whitened by other training images than those given, or are not "
            f"those of {path.name}: pass the data set they were made from, whole"
        )

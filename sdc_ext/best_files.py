"""``images_best.pt``, ``labels_best.pt`` and ``lr_best.pt``: the files of MTT and its successors.

They hold tensors alone. What else evaluating them takes, the data set, its preprocessing, the
augmentation, is told by the real data and by the originals' scripts, unless ``meta.json`` lies
beside them, which :func:`write_best` leaves.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path

import torch
from torch import Tensor

from sdc_ext.data import RealData
from sdc_ext.errors import InputError
from sdc_ext.files import write_whole
from sdc_ext.synthetic import META, SetInfo, SyntheticSet, TrainingRecipe
from sdc_ext.tensor_files import load_tensors

BEST = "images_best.pt"
_NAME = re.compile(r"(?P<average>ema_)?images_(?P<which>best|\d+)\.pt")
_NO_MIRRORING = ("digits", "mnist", "svhn")

# How far pictures may be from the whitened images they were made from.
_PICTURE_ERROR = 0.01


def is_best_file(path: Path) -> bool:
    """Whether a file is named as these are: ``images_best.pt``, ``ema_images_500.pt``."""
    return _NAME.fullmatch(path.name) is not None


def read_best(path: Path, data: RealData, *, zca: bool = False) -> SyntheticSet:
    """Reads ``images_*.pt`` with the labels and the rate beside it; executes nothing in them.

    Whole numbers are classes; rows of probabilities are soft labels (TESLA), other rows their
    logits (DATM). An ``images_zca_*.pt`` in the folder says that the images are ZCA-whitened.
    Without a rate (only DATM saves it) 0.01 is taken.

    Args:
        path: the images' file.
        data: the real data, normalised as usual.
        zca: the images are whitened, though no ``images_zca_*.pt`` says so.

    Raises:
        InputError: if a file is missing or something else, the images do not fit the data, or
            are whitened by other training images.
    """
    named = _NAME.fullmatch(path.name)
    if named is None:
        raise InputError(f"{path} is not named images_best.pt or images_<iteration>.pt")
    which, folder = named["which"], path.parent
    labels_path = folder / f"{named['average'] or ''}labels_{which}.pt"
    images, labels = (_tensor(p).detach() for p in (path, labels_path))
    if images.ndim != 4 or len(images) != len(labels):
        raise InputError(
            f"{path} holds {tuple(images.shape)} and {labels_path.name} {tuple(labels.shape)}: "
            "images (N, C, H, W) and N labels are needed"
        )
    rate = folder / f"lr_{which}.pt"
    lr = float(_tensor(rate)) if rate.is_file() else None
    if zca or any(folder.glob("images_zca_*.pt")):
        data = data.whitened()
    if (folder / META).is_file():
        info = SetInfo.from_json((folder / META).read_text())
    else:
        info = _told_by_data(images, data, lr)
    pixels = data.whitening.undo(images.float()) if data.whitening is not None else None
    picture = folder / f"images_zca_{which}.pt"
    if pixels is not None and picture.is_file():
        _check_picture(pixels, _tensor(picture), picture)
    return SyntheticSet(images.float(), _as_labels(labels), info, pixels)


def write_best(synthetic: SyntheticSet, folder: Path) -> None:
    """Writes ``images_best.pt``, ``labels_best.pt`` and ``lr_best.pt``, as the MTT family does.

    Images that are whitened are joined by ``images_zca_best.pt``, which is the picture; it is
    ``images_best.pt`` that networks are trained on. Labels are classes, or what the originals
    make of soft ones: TESLA probabilities, DATM logits. ``meta.json`` holds the rest.
    """
    labels = synthetic.labels.log() if synthetic.info.method == "datm" else synthetic.labels
    tensors = {
        "images": synthetic.images,
        "labels": labels,
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
    return content


def _as_labels(labels: Tensor) -> Tensor:
    if labels.ndim == 1:
        return labels.long()
    labels = labels.float()
    sums = labels.sum(1)
    is_probability = bool((labels >= 0).all()) and torch.allclose(sums, torch.ones_like(sums))
    return labels if is_probability else labels.softmax(1)


def _told_by_data(images: Tensor, data: RealData, lr: float | None) -> SetInfo:
    mirror = "" if data.name in _NO_MIRRORING else "_flip"
    recipe = TrainingRecipe(
        epochs=1000,
        lr=0.01 if lr is None else lr,
        augmentation=f"color_crop_cutout{mirror}_scale_rotate",
        align_corners=True,
    )
    return SetInfo(
        method="unknown",
        dataset=data.name,
        classes=data.classes,
        mean=data.mean,
        std=data.std,
        ipc=len(images) // len(data.classes),
        network="convnet" if max(images.shape[2:]) <= 32 else "convnet:depth=4",
        evaluation=recipe,
        whitening=data.whitened_by,
    )


def _check_picture(pixels: Tensor, picture: Tensor, path: Path) -> None:
    if pixels.shape != picture.shape or (pixels - picture).abs().max() > _PICTURE_ERROR:
        raise InputError(
            f"the images are ZCA-whitened by other training images than those given, or are not "
            f"those of {path.name}: pass the data set they were made from, whole"
        )

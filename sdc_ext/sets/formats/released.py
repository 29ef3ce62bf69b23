"""Reads the layout of DD-Ranking's baselines: ``images.pt``, ``labels.pt`` and ``lr.pt``.

DD-Ranking's demos read them from folders such as ``DATM/CIFAR10/IPC10``. Sets with hard labels have
the images alone, sorted by class. Images are normalised or whitened, which no file says.

Reference: ``demo_soft.py`` and ``demo_hard.py`` of DD-Ranking's repository.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from torch import Tensor

from sdc_ext.errors import InputError
from sdc_ext.sets.formats.tensors import as_rate, load_tensor
from sdc_ext.sets.strangers import Found
from sdc_ext.training.protocols import protocol

IMAGES = "images.pt"

_METHODS = ("dc", "dsa", "dm", "mtt", "datm", "datadam", "tesla", "ftd")


def released_file(path: Path) -> Path:
    """Returns the file with the images at a path that names it or its folder."""
    return path / IMAGES if path.is_dir() else path


def read_released(path: Path) -> Found:
    """Reads ``images.pt`` and what lies beside it.

    Args:
        path: The file with the images.

    Raises:
        InputError: If a file holds no single tensor.
    """
    folder = path.parent
    method = next((p.lower() for p in folder.parts[-3:] if p.lower() in _METHODS), "unknown")
    lr = as_rate(folder / "lr.pt") if (folder / "lr.pt").is_file() else None
    labels: Tensor | None = None
    if (folder / "labels.pt").is_file():
        labels = load_tensor(folder / "labels.pt")
    if labels is not None and not len(labels):
        raise InputError(f"{folder / 'labels.pt'} holds no labels: pass another copy of it")

    return Found(
        path,
        layout="DD-Ranking",
        method=method,
        images=load_tensor(path),
        labels=labels,
        recipe=partial(protocol, "ddranking"),
        rate=0.01,
        lr=lr,
    )

"""Writes tensors for DD-Ranking's evaluators, and reads them back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sdc_ext._files import as_tensors, write_whole
from sdc_ext.data.known import STATISTICS
from sdc_ext.data.preprocessing import Preprocessing
from sdc_ext.errors import InputError
from sdc_ext.sets.checks import check_normalised, check_tensors
from sdc_ext.sets.formats.tensors import OUR_KEY
from sdc_ext.sets.info import SetInfo
from sdc_ext.sets.synthetic_set import SyntheticSet

# The data sets that DD-Ranking evaluates on, and whose statistics it uses for each. Unlike other
# projects, it normalises CIFAR-100 with CIFAR-10's.
_STATISTICS = {"cifar10": "cifar10", "cifar100": "cifar10", "tinyimagenet": "tinyimagenet"}


def write_dd_ranking(synthetic: SyntheticSet, path: Path) -> None:
    """Writes a set for DD-Ranking, in DD-Ranking's normalisation and sorted by class.

    The file holds a dict of ``images`` (N, 3, H, W), ``soft_labels`` (N, classes) or None, and
    ``syn_lr``, for the arguments ``image_tensor``, ``soft_labels`` and ``syn_lr`` of DD-Ranking's
    ``compute_metrics``. Soft labels are logits, since DD-Ranking's loss takes their softmax.
    Images are decoded.

    Args:
        synthetic: The set.
        path: The file to write.

    Raises:
        InputError: If DD-Ranking does not evaluate on the data set, or the set is whitened.
    """
    synthetic = synthetic.decoded()
    info = synthetic.info
    if info.dataset not in _STATISTICS:
        raise InputError(
            f"DD-Ranking does not evaluate on {info.dataset}, only on {', '.join(_STATISTICS)}: "
            "choose another format"
        )
    if info.whitening is not None:
        raise InputError(
            "DD-Ranking whitens pixels in its own way: export the whitened set in another format"
        )
    order = synthetic.hard_labels.argsort(stable=True)
    labels = synthetic.labels[order]
    ours, theirs = _statistics(info)
    content = {
        "images": theirs.normalize(ours.pixels(synthetic.images))[order],
        "soft_labels": _as_logits(labels) if labels.ndim == 2 else None,
        "syn_lr": info.evaluation.lr,
        "labels": synthetic.hard_labels[order],
        OUR_KEY: info.to_json(),
    }
    write_whole(path, as_tensors(content))


def read_dd_ranking(content: dict[str, Any], path: Path) -> SyntheticSet:
    """Returns the set that ``write_dd_ranking`` wrote.

    Args:
        content: The content of the file.
        path: The path of the file, for messages.

    Raises:
        InputError: If something else wrote the file.
    """
    try:
        info = SetInfo.from_json(content[OUR_KEY], f"the description in {path}")
        ours, theirs = _statistics(info)
        soft = content["soft_labels"]
        check_normalised(content["images"], str(path))
        images = ours.normalize(theirs.pixels(content["images"]))
        labels = content["labels"] if soft is None else soft.softmax(1)
        check_tensors(images, labels, info, str(path))
        return SyntheticSet(images, labels, info)
    except InputError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise InputError(
            f"{path} was not exported by sdc-ext ({error!r}): pass a file that sdc-ext export wrote"
        ) from None


def _as_logits(labels: Tensor) -> Tensor:
    """Returns logits (N, classes) whose softmax is these probabilities."""
    return labels.clamp(min=torch.finfo(labels.dtype).tiny).log()


def _statistics(info: SetInfo) -> tuple[Preprocessing, Preprocessing]:
    """Returns the channel statistics of the set and those of DD-Ranking."""
    theirs = STATISTICS[_STATISTICS[info.dataset]]
    return Preprocessing(info.mean, info.std), Preprocessing(*theirs)

"""Reads and writes the files of DC, DSA, DCC and DM, e.g. ``res_DC_MNIST_ConvNet_1ipc.pt``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from sdc_ext._files import as_tensors, write_whole
from sdc_ext.data.known import CLASS_COUNTS, STATISTICS
from sdc_ext.errors import InputError
from sdc_ext.sets.checks import check_tensors
from sdc_ext.sets.formats.original_names import original_network, our_network
from sdc_ext.sets.formats.tensors import OUR_KEY, load_tensors
from sdc_ext.sets.info import Evaluation, SetInfo, check_info
from sdc_ext.sets.synthetic_set import SyntheticSet
from sdc_ext.training.protocols import Subject, protocol

_NAME = re.compile(r"res_(?P<method>[^_]+)_(?P<dataset>[^_]+)_(?P<model>.+)_(?P<ipc>\d+)ipc")


def read_res(path: Path) -> SyntheticSet:
    """Reads the last run's images from a ``res_*.pt`` file, without executing anything in it.

    The original scripts' files hold images, labels and accuracies. Method, data set, network and
    ipc are read from the file's name, and the normalisation is the one that the scripts use for
    the data set. A file that ``write_res`` wrote also holds the set's description.

    Raises:
        InputError: If the file or its name cannot be read.
    """
    return parse_res(load_tensors(path), path)


def parse_res(content: Any, path: Path) -> SyntheticSet:
    """Returns the set in the loaded content of a ``res_*.pt`` file; see ``read_res``."""
    try:
        images, labels = content["data"][-1]
        if OUR_KEY in content:
            info = SetInfo.from_json(content[OUR_KEY], f"the description in {path}")
        else:
            info = _info_from_name(path, content.get("accs_all_exps", {}), labels)
            check_info(info, str(path), "pass another copy of it")
        if not bool((labels == labels.long()).all()):
            raise ValueError("labels are not whole numbers")
        images, labels = images.detach().float(), labels.long()
        check_tensors(images, labels, info, str(path))
        return SyntheticSet(images, labels, info)
    except InputError:
        raise
    except (
        *(LookupError, TypeError, ValueError),
        *(AttributeError, RuntimeError, ArithmeticError),
    ) as error:
        raise InputError(
            f"{path} is not a res_*.pt of DC's kind ({error!r}): pass a file that the script of "
            "DC, DSA, DCC or DM wrote"
        ) from None


def _info_from_name(path: Path, tested: dict[str, Any], labels: Tensor) -> SetInfo:
    named = _NAME.match(path.stem)
    if named is None or named["dataset"].lower() not in STATISTICS:
        raise InputError(
            f"the name {path.name} does not say the data set: keep the original name, "
            "res_<method>_<dataset>_<model>_<ipc>ipc.pt"
        )
    dataset, method = named["dataset"].lower(), named["method"].lower()
    mean, std = STATISTICS[dataset]
    classes = int(labels.max()) + 1
    if classes > CLASS_COUNTS[dataset]:
        raise InputError(
            f"{path} holds the label {classes - 1}, and {dataset} has {CLASS_COUNTS[dataset]} "
            "classes: keep the original name and content"
        )
    return SetInfo(
        method=method,
        dataset=dataset,
        classes=tuple(str(c) for c in range(classes)),
        mean=mean,
        std=std,
        ipc=int(named["ipc"]),
        network=our_network(named["model"]),
        evaluation=protocol("dc", Subject(dataset, method)),
        accuracies=tuple(
            Evaluation(model, tuple(map(float, accuracies))).row(0)
            for model, accuracies in tested.items()
            if accuracies
        ),
    )


def write_res(runs: Sequence[SyntheticSet], path: Path) -> None:
    """Writes the sets of one or more runs to a file that the original scripts can load.

    Images are decoded.

    Args:
        runs: The sets, one per run, at least one.
        path: The file to write.

    Raises:
        InputError: If the folder of ``path`` does not exist, or a set has soft labels or is
            whitened.
    """
    runs = [run.decoded() for run in runs]
    accuracies: dict[str, list[float]] = {}
    for run in runs:
        if run.labels.ndim == 2 or run.unwhitened is not None:
            raise InputError(
                "a res_*.pt cannot hold soft labels or ZCA-whitened images: export the set in the "
                "format best, or share its folder"
            )
        last = {e["network"]: e["accuracies"] for e in run.info.accuracies}
        for network, values in last.items():
            accuracies.setdefault(original_network(network), []).extend(values)
    content = {
        "data": [[run.images, run.labels] for run in runs],
        "accs_all_exps": accuracies,
        OUR_KEY: runs[-1].info.to_json(),
    }
    if not path.parent.is_dir():
        raise InputError(
            f"there is no folder {path.parent} to write {path.name} to: create it first"
        )
    write_whole(path, as_tensors(content))

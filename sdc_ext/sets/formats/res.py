"""Names and files of the original repositories, e.g. ``res_DC_MNIST_ConvNet_1ipc.pt``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sdc_ext._files import write_whole
from sdc_ext.data.load import STATISTICS
from sdc_ext.errors import InputError
from sdc_ext.sets.formats.original_names import (
    original_network,
    our_network,
    recipe_of_originals,
)
from sdc_ext.sets.formats.tensors import OUR_KEY, load_tensors
from sdc_ext.sets.info import Evaluation, SetInfo
from sdc_ext.sets.synthetic_set import SyntheticSet

_NAME = re.compile(r"res_(?P<method>[^_]+)_(?P<dataset>[^_]+)_(?P<model>.+)_(?P<ipc>\d+)ipc")


def read_res(path: Path) -> SyntheticSet:
    """Reads the last run's images of a ``res_*.pt`` file; executes nothing in it.

    A file of the originals holds images, labels and accuracies; the rest is told by its name,
    and the normalisation is the originals' for that data set. A file of ``write_res`` also
    holds what we know of the set.

    Raises:
        InputError: if it cannot be read so.
    """
    return parse_res(load_tensors(path), path)


def parse_res(content: Any, path: Path) -> SyntheticSet:
    """What ``read_res`` reads, once it is loaded."""
    try:
        images, labels = content["data"][-1]
        if OUR_KEY in content:
            info = SetInfo.from_json(content[OUR_KEY])
        else:
            info = _info_from_name(path, content.get("accs_all_exps", {}), labels)
        return SyntheticSet(images.detach().float(), labels.long(), info)
    except InputError:
        raise
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} is not a res_*.pt of the originals: {error!r}") from None


def _info_from_name(path: Path, tested: dict[str, Any], labels: Tensor) -> SetInfo:
    told = _NAME.match(path.stem)
    if told is None or told["dataset"].lower() not in STATISTICS:
        raise InputError(
            f"the name {path.name} does not tell the data set: keep the originals' "
            "res_<method>_<dataset>_<model>_<ipc>ipc.pt"
        )
    dataset, method = told["dataset"].lower(), told["method"].lower()
    mean, std = STATISTICS[dataset]
    return SetInfo(
        method=method,
        dataset=dataset,
        classes=tuple(str(c) for c in range(int(labels.max()) + 1)),
        mean=mean,
        std=std,
        ipc=int(told["ipc"]),
        network=our_network(told["model"]),
        evaluation=recipe_of_originals(method, dataset),
        accuracies=tuple(
            Evaluation(model, tuple(map(float, accuracies))).row(0)
            for model, accuracies in tested.items()
            if accuracies
        ),
    )


def write_res(runs: Sequence[SyntheticSet], path: Path) -> None:
    """Writes the sets of one or more runs so that the originals' scripts can load them.

    Raises:
        InputError: if the folder of ``path`` does not exist, or a set has soft labels or is
            whitened.
    """
    accuracies: dict[str, list[float]] = {}
    for run in runs:
        if run.labels.ndim == 2 or run.unwhitened is not None:
            raise InputError(
                "soft labels and ZCA whitening have no place in a res_*.pt: pass on the folder "
                "itself"
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
        raise InputError(f"there is no folder {path.parent} to write {path.name} to")
    write_whole(path, lambda temporary: torch.save(content, temporary))

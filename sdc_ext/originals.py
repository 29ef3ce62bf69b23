"""Names and files of the original repositories, e.g. ``res_DC_MNIST_ConvNet_1ipc.pt``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sdc_ext.data import STATISTICS, RealData
from sdc_ext.errors import InputError
from sdc_ext.evaluate import Evaluation
from sdc_ext.files import write_whole
from sdc_ext.synthetic import UNKNOWN, SetInfo, SyntheticSet, TrainingRecipe
from sdc_ext.tensor_files import load_tensors

_DATASET_NAMES = {
    "mnist": "MNIST",
    "fashionmnist": "FashionMNIST",
    "svhn": "SVHN",
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
    "tinyimagenet": "TinyImageNet",
}
_NETWORK_NAMES = {
    "convnet": "ConvNet",
    "lenet": "LeNet",
    "alexnet": "AlexNet",
    "vgg11": "VGG11",
    "resnet18": "ResNet18",
    "mlp": "MLP",
    "convnet:norm=batch": "ConvNetBN",
    "convnet:norm=layer": "ConvNetLN",
    "convnet:norm=group": "ConvNetGN",
    "convnet:norm=none": "ConvNetNN",
    "convnet:act=sigmoid": "ConvNetAS",
    "convnet:act=leakyrelu": "ConvNetAL",
    "convnet:act=swish": "ConvNetASwish",
    "convnet:pool=none": "ConvNetNP",
    "convnet:pool=max": "ConvNetMP",
    "vgg11:norm=batch": "VGG11BN",
    "resnet18:norm=batch": "ResNet18BN",
}

# Where a file of theirs that we write holds what we know of the set.
OUR_KEY = "sdc_ext"
_NAME = re.compile(r"res_(?P<method>[^_]+)_(?P<dataset>[^_]+)_(?P<model>.+)_(?P<ipc>\d+)ipc")


def read_res(path: Path) -> SyntheticSet:
    """Reads the last run's images of a ``res_*.pt`` file; executes nothing in it.

    A file of the originals holds images, labels and accuracies; the rest is told by its name,
    and the normalisation is the originals' for that data set. A file of :func:`write_res` also
    holds what we know of the set.

    Raises:
        InputError: if it cannot be read so.
    """
    return parse_res(load_tensors(path), path)


def parse_res(content: Any, path: Path) -> SyntheticSet:
    """What :func:`read_res` reads, once it is loaded."""
    try:
        images, labels = content["data"][-1]
        if OUR_KEY in content:
            info = SetInfo.from_json(content[OUR_KEY])
        else:
            info = _told_by_name(path, content.get("accs_all_exps", {}), labels)
        return SyntheticSet(images.detach().float(), labels.long(), info)
    except InputError:
        raise
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} is not a res_*.pt of the originals: {error!r}") from None


def _told_by_name(path: Path, tested: dict[str, Any], labels: Tensor) -> SetInfo:
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
            accuracies.setdefault(_model(network), []).extend(values)
    content = {
        "data": [[run.images, run.labels] for run in runs],
        "accs_all_exps": accuracies,
        OUR_KEY: runs[-1].info.to_json(),
    }
    if not path.parent.is_dir():
        raise InputError(f"there is no folder {path.parent} to write {path.name} to")
    write_whole(path, lambda temporary: torch.save(content, temporary))


def original_name(info: SetInfo) -> str:
    """The file name that the originals would give a set; theirs call DCC DC and DSAC DSA."""
    dataset = _DATASET_NAMES.get(info.dataset, info.dataset)
    method = {"dcc": "DC", "dsac": "DSA"}.get(info.method, info.method.upper())
    return f"res_{method}_{dataset}_{_model(info.network)}_{info.ipc}ipc.pt"


def recipe_of_originals(method: str, dataset: str) -> TrainingRecipe:
    """The originals' evaluation of DC, DSA and DM (``main.py``, ``main_DM.py``)."""
    if method in ("dsa", "dm"):
        digits = dataset in ("digits", "mnist", "svhn")
        mirror = "" if digits else "_flip"
        strategy = f"color_crop_cutout{mirror}_scale_rotate"
        return TrainingRecipe(epochs=1000, augmentation=strategy)
    if dataset == "mnist":
        return TrainingRecipe(epochs=1000, augmentation="dc:crop_scale_rotate")
    return TrainingRecipe(epochs=300)


def told_by_data(data: RealData, labels: Tensor, recipe: TrainingRecipe) -> SetInfo:
    """What the real data tell of a set that says nothing itself.

    Args:
        data: normalised as the set is.
        labels: the set's classes (N,).
        recipe: how to train on it.
    """
    return SetInfo(
        method=UNKNOWN,
        dataset=data.name,
        classes=data.classes,
        mean=data.mean,
        std=data.std,
        ipc=int(labels.bincount().max()),
        network="convnet" if max(data.image_size) <= 32 else "convnet:depth=4",
        evaluation=recipe,
        whitening=data.whitened_by,
    )


def our_dataset(name: str) -> str | None:
    """Our name of an original's data set, e.g. ``cifar10`` of CIFAR10, if they have it."""
    wanted = {"Tiny": "tinyimagenet"}.get(name, name.lower())
    return wanted if wanted in _DATASET_NAMES else None


def our_network(model: str) -> str:
    """Our name of an original's model, e.g. ``convnet:depth=4`` of ConvNetD4.

    Raises:
        InputError: if the originals have no such model.
    """
    names = {theirs: ours for ours, theirs in _NETWORK_NAMES.items()}
    variant = re.fullmatch(r"ConvNet([DW])(\d+)", model)
    if variant is not None:
        return f"convnet:{'depth' if variant[1] == 'D' else 'width'}={variant[2]}"
    if model not in names:
        raise InputError(
            f"unknown model {model!r} of the originals: known are {', '.join(names)}, and widths "
            "and depths as in ConvNetW32 and ConvNetD4"
        )
    return names[model]


def _model(network: str) -> str:
    """The originals' name of a network, or our own where they have none."""
    variant = re.fullmatch(r"convnet:(depth|width)=(\d+)", network)
    if variant is not None:
        return f"ConvNet{variant[1][0].upper()}{variant[2]}"
    return _NETWORK_NAMES.get(network, network.replace(":", "-").replace("=", ""))

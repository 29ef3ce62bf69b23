"""What the original repositories call data sets, networks and files."""

from __future__ import annotations

import re

from sdc_ext.errors import InputError
from sdc_ext.sets.info import SetInfo
from sdc_ext.training.recipe import TrainingRecipe

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


def original_name(info: SetInfo) -> str:
    """The file name that the originals would give a set; theirs call DCC DC and DSAC DSA."""
    dataset = _DATASET_NAMES.get(info.dataset, info.dataset)
    method = {"dcc": "DC", "dsac": "DSA"}.get(info.method, info.method.upper())
    return f"res_{method}_{dataset}_{original_network(info.network)}_{info.ipc}ipc.pt"


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


def original_network(network: str) -> str:
    """The originals' name of a network, or our own where they have none."""
    variant = re.fullmatch(r"convnet:(depth|width)=(\d+)", network)
    if variant is not None:
        return f"ConvNet{variant[1][0].upper()}{variant[2]}"
    return _NETWORK_NAMES.get(network, network.replace(":", "-").replace("=", ""))

"""Translates between our names of data sets and networks and those of the original repositories."""

from __future__ import annotations

import re

from sdc_ext.data.known import KNOWN, STATISTICS
from sdc_ext.errors import InputError
from sdc_ext.networks.pool import pool_of
from sdc_ext.sets.info import SetInfo

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
    """Returns the file name that the original scripts give a set.

    DCC's script writes DC for DCC and DSA for DSAC.
    """
    dataset = KNOWN[info.dataset].title if info.dataset in KNOWN else info.dataset
    method = {"dcc": "DC", "dsac": "DSA"}.get(info.method, info.method.upper())
    return f"res_{method}_{dataset}_{original_network(pool_of(info.network)[0])}_{info.ipc}ipc.pt"


def our_dataset(name: str) -> str | None:
    """Returns our name of a data set, e.g. ``cifar10`` for CIFAR10; None if there is none."""
    wanted = {"tiny": "tinyimagenet", "fashion": "fashionmnist"}.get(name.lower(), name.lower())
    return wanted if wanted in STATISTICS else None


def our_network(model: str) -> str:
    """Returns our name of a model, e.g. ``convnet:depth=4`` for ConvNetD4.

    Raises:
        InputError: If the original repositories have no such model.
    """
    names = {theirs: ours for ours, theirs in _NETWORK_NAMES.items()}
    variant = re.fullmatch(r"ConvNet([DW])(\d+)", model)
    if variant is not None:
        return f"convnet:{'depth' if variant[1] == 'D' else 'width'}={variant[2]}"
    if model not in names:
        raise InputError(
            f"unknown model {model!r}: choose from {', '.join(names)}, and widths and depths as "
            "in ConvNetW32 and ConvNetD4"
        )
    return names[model]


def original_network(network: str) -> str:
    """Returns the original repositories' name of a network, or a form of ours if they have none."""
    variant = re.fullmatch(r"convnet:(depth|width)=(\d+)", network)
    if variant is not None:
        return f"ConvNet{variant[1][0].upper()}{variant[2]}"
    return _NETWORK_NAMES.get(network, network.replace(":", "-").replace("=", ""))

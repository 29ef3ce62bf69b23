"""Trains networks on the real data, whose features or mistakes are then used to rank samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.optim import SGD

from sdc_ext._options import option
from sdc_ext._seeds import seed_torch
from sdc_ext._values import Count, Rate, check_fields
from sdc_ext.augment.parse import parse_augmentation
from sdc_ext.data.real import RealData
from sdc_ext.errors import DivergenceError
from sdc_ext.networks.create import create_network
from sdc_ext.training.epochs import train_epoch

Batches: TypeAlias = Sequence[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Probe:
    """Hyper-parameters for training a network on the real data, in order to rank samples.

    Attributes:
        network: The name of the network; see
            [`create_network`][sdc_ext.networks.create_network].
        train_epochs: The number of epochs.
        lr_net: The learning rate of SGD.
        batch_train: The number of real images per step.

    Raises:
        InputError: If a value is out of range.
    """

    network: str = option("convnet", "network that is trained on the real images")
    train_epochs: Count = option(20, "epochs on the real images")
    lr_net: Rate = option(0.01, "learning rate of that network")
    batch_train: Count = option(256, "real images per step")

    def __post_init__(self) -> None:
        check_fields(self)


def train_probe(
    data: RealData,
    probe: Probe,
    batches: Batches,
    *,
    seed: int,
    device: torch.device,
    index: int = 0,
    on_epoch: Callable[[nn.Module], object],
) -> nn.Module:
    """Trains a network on real images.

    Args:
        data: The real data, which determine the network's input shape and number of classes.
        probe: The hyper-parameters.
        batches: Pairs of images (B, C, H, W), normalised, and labels (B,), on the device.
        seed: Seeds the initialisation and the order of the images.
        device: The device on which the network is trained.
        index: The number of the network, among several with the same seed.
        on_epoch: Called with the network after every epoch.

    Returns:
        The trained network, on the device.

    Raises:
        DivergenceError: If a parameter is not finite.
    """
    seed_torch(seed, "probe", index)
    network = create_network(probe.network, *data.network_shape)
    network.to(device)
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    optimizer = SGD(network.parameters(), lr=probe.lr_net, momentum=0.9, weight_decay=0.0005)
    for epoch in range(probe.train_epochs):
        train_epoch(
            network.train(),
            optimizer,
            images,
            labels,
            batch_size=probe.batch_train,
            augmentation=parse_augmentation("none"),
        )
        if not all(bool(p.isfinite().all()) for p in network.parameters()):
            raise DivergenceError(
                f"{probe.network} diverged in epoch {epoch + 1} on the real images: lower "
                f"`lr_net`, which is {probe.lr_net:g}"
            )
        on_epoch(network)
    return network

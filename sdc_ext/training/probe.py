"""Networks trained on real data, through which samples are looked at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.optim import SGD

from sdc_ext._options import option
from sdc_ext._seeds import seed_torch
from sdc_ext.augment.parse import parse_augmentation
from sdc_ext.data.real import RealData
from sdc_ext.errors import check_positive
from sdc_ext.networks.create import create_network
from sdc_ext.training.epochs import train_epoch

Batches: TypeAlias = Sequence[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Probe:
    """How networks are trained through which real data are looked at.

    Raises:
        InputError: if a number is not above 0.
    """

    network: str = option("convnet", "network that looks at the real images")
    train_epochs: int = option(20, "epochs on the real data")
    lr_net: float = option(0.01, "its learning rate")
    batch_train: int = option(256, "real images a step")

    def __post_init__(self) -> None:
        check_positive(self, "train_epochs", "lr_net", "batch_train")


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
    """A network trained on real images.

    Args:
        data: decides what the network takes and gives.
        probe: how it is trained.
        batches: images (B, C, H, W), normalised, with labels (B,), on the device.
        seed: of its initialisation and of the order of images.
        device: where it is trained.
        index: which of several of this seed.
        on_epoch: called with the network after every epoch.
    """
    seed_torch(seed, "probe", index)
    network = create_network(probe.network, *data.network_shape)
    network.to(device)
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    optimizer = SGD(network.parameters(), lr=probe.lr_net, momentum=0.9, weight_decay=0.0005)
    for _ in range(probe.train_epochs):
        train_epoch(
            network.train(),
            optimizer,
            images,
            labels,
            batch_size=probe.batch_train,
            augmentation=parse_augmentation("none"),
        )
        on_epoch(network)
    return network

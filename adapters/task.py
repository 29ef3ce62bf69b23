"""What a method is given to work with."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from sdc_ext.data.real import RealData
from sdc_ext.errors import InputError
from sdc_ext.experts.base import Experts
from sdc_ext.matching.adjoints import Share
from sdc_ext.networks.create import create_network
from sdc_ext.training.gradients import BatchLoss


@dataclass(frozen=True)
class Task:
    """What is distilled, into how many images, with which network and experts, and where.

    Raises:
        InputError: if a class has fewer than ``ipc`` images.
    """

    data: RealData
    ipc: int
    network: str
    accelerator: Accelerator
    compile: bool = False
    experts: Experts | None = None

    def __post_init__(self) -> None:
        if self.ipc < 1:
            raise InputError(f"ipc must be at least 1, got {self.ipc}")
        for name, index in zip(self.data.classes, self.class_indices, strict=True):
            if len(index) < self.ipc:
                raise InputError(
                    f"ipc {self.ipc} is more than the {len(index)} training images of class "
                    f"{name!r}: use at most {len(index)}"
                )

    @cached_property
    def batch_loss(self) -> BatchLoss:
        """How to compute losses whose gradient is not differentiated again."""
        return BatchLoss(bf16=self.accelerator.mixed_precision == "bf16", compile=self.compile)

    @cached_property
    def class_indices(self) -> list[Tensor]:
        return self.data.indices_by_class()

    @cached_property
    def _images(self) -> Tensor:
        return self.data.train.images.to(self.accelerator.device)

    @property
    def num_classes(self) -> int:
        return len(self.data.classes)

    def reduce(self, tensor: Tensor) -> Tensor:
        """Sums a tensor over processes."""
        reduced: Tensor = self.accelerator.reduce(tensor, "sum")
        return reduced

    @property
    def share(self) -> Share:
        """This process's part of inner loops."""
        return Share(self.accelerator.process_index, self.accelerator.num_processes, self.reduce)

    def new_network(self) -> nn.Module:
        """A fresh random network in training mode, on the device."""
        network = create_network(self.network, *self.data.network_shape)
        return network.to(self.accelerator.device).train()

    def draw_indices(self, label: int, n: int) -> Tensor:
        """``n`` different training images of a class (all of them if it has fewer)."""
        index = self.class_indices[label]
        return index[torch.randperm(len(index))[:n]]

    def real_images(self, index: Tensor) -> Tensor:
        """Normalised images (len(index), C, H, W) on the device."""
        return self.data.normalize(self._images[index.to(self._images.device)])

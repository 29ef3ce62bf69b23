"""The task of a run: real data, number of images, network, experts and accelerator."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from sdc_ext._words import number_of
from sdc_ext.augment.base import Augmentation
from sdc_ext.augment.parse import parse_augmentation
from sdc_ext.data.real import RealData
from sdc_ext.errors import InputError
from sdc_ext.experts.base import Experts
from sdc_ext.matching.adjoints import Share
from sdc_ext.networks.create import create_network
from sdc_ext.networks.pool import pool_of
from sdc_ext.training.gradients import BatchLoss


@dataclass(frozen=True)
class Task:
    """Everything that a loop works with, and the operations on it that loops share.

    Attributes:
        data: The real data, normalised or whitened as the run requires.
        ipc: The number of synthetic images per class.
        network: The network to distil with, or a pool of several, with commas between them; see
            [`pool_of`][sdc_ext.networks.pool_of].
        accelerator: The device, the processes and the precision of the run.
        compile: Whether networks are compiled.
        experts: The expert trajectories, for methods that match trajectories.

    Raises:
        InputError: If ``ipc`` is below 1, a class has fewer training images than that, or the
            precision is neither ``"no"`` nor ``"bf16"``.
    """

    data: RealData
    ipc: int
    network: str
    accelerator: Accelerator
    compile: bool = False
    experts: Experts | None = None

    def __post_init__(self) -> None:
        BatchLoss.of(self.accelerator)  # refuses other precisions before the work
        if self.ipc < 1:
            raise InputError(f"ipc must be at least 1, got {self.ipc}")
        for name, index in zip(self.data.classes, self.class_indices, strict=True):
            if len(index) < self.ipc:
                images = number_of(len(index), "training image")
                raise InputError(
                    f"ipc {self.ipc} is more than the {images} of class "
                    f"{name!r}: use at most {len(index)}"
                )

    @cached_property
    def batch_losses(self) -> list[BatchLoss]:
        """For each network of the pool, what computes losses that are differentiated once.

        Their gradient is not differentiated again, so bf16 may be used.
        """
        return [BatchLoss.of(self.accelerator, compile=self.compile) for _ in self.pool]

    @cached_property
    def class_indices(self) -> list[Tensor]:
        """The positions of each class's training images, one int64 tensor per class."""
        return self.data.indices_by_class()

    @cached_property
    def _images(self) -> Tensor:
        return self.data.train.images.to(self.accelerator.device)

    @property
    def num_classes(self) -> int:
        """The number of classes in the real data."""
        return len(self.data.classes)

    def reduce(self, tensor: Tensor) -> Tensor:
        """Returns the sum of a tensor over all processes."""
        reduced: Tensor = self.accelerator.reduce(tensor, "sum")
        return reduced

    @property
    def share(self) -> Share:
        """The part of an inner loop that this process computes."""
        return Share(self.accelerator.process_index, self.accelerator.num_processes, self.reduce)

    @cached_property
    def pool(self) -> tuple[str, ...]:
        """The names of the networks to distil with, of which there is usually one."""
        return pool_of(self.network)

    def draw_member(self, iteration: int) -> int:
        """Draws the index of the network of the pool for an outer iteration.

        The first iteration takes the first network, whose gradients set the scale of all others. A
        pool of one takes no random number.
        """
        if len(self.pool) == 1:
            return 0
        drawn = int(torch.randint(len(self.pool), ()))
        return drawn if iteration > 0 else 0

    def new_network(self, member: int = 0) -> nn.Module:
        """Returns a randomly initialised network in training mode, on the device.

        Args:
            member: The index of the network in the pool.
        """
        network = create_network(self.pool[member], *self.data.network_shape)
        return network.to(self.accelerator.device).train()

    def augmentation(self, spec: str, *, align_corners: bool = False) -> Augmentation:
        """Returns an augmentation of images that are normalised as the data are.

        Args:
            spec: See [`parse_augmentation`][sdc_ext.augment.parse_augmentation].
            align_corners: See [`SiameseAugmentation`][sdc_ext.augment.SiameseAugmentation].
        """
        normalisation = self.data.preprocessing
        return parse_augmentation(spec, align_corners=align_corners, normalisation=normalisation)

    def draw_indices(self, label: int, n: int) -> Tensor:
        """Draws the positions of training images of a class, without replacement.

        Args:
            label: The index of the class.
            n: The number of images; all of them are drawn if the class has fewer.

        Returns:
            Positions in ``data.train`` (n,), in random order.
        """
        index = self.class_indices[label]
        return index[torch.randperm(len(index))[:n]]

    def real_images(self, index: Tensor) -> Tensor:
        """Returns training images by their positions.

        Args:
            index: Positions in ``data.train`` (n,).

        Returns:
            Normalised images (n, C, H, W) on the device.
        """
        return self.data.normalize(self._images[index.to(self._images.device)])

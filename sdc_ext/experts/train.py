"""Trains experts on the real data, and stores their parameters after every epoch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor
from torch.nn.utils import vector_to_parameters

from sdc_ext._seeds import seed_torch
from sdc_ext.augment.base import Augmentation, Normalisation
from sdc_ext.augment.parse import parse_augmentation
from sdc_ext.data.real import RealData
from sdc_ext.errors import DivergenceError
from sdc_ext.experts.gsam import gsam_direction
from sdc_ext.experts.recipe import ExpertRecipe
from sdc_ext.experts.store import ExpertStore
from sdc_ext.networks.create import create_network
from sdc_ext.networks.functional import FunctionalNetwork
from sdc_ext.training.epochs import accuracy, normalized_batches
from sdc_ext.workers.pool import SERIAL, Workers
from sdc_ext.workers.progress import Steps


def train_expert(
    student: FunctionalNetwork,
    theta: Tensor,
    images: Tensor,
    labels: Tensor,
    recipe: ExpertRecipe,
    on_epoch: Callable[[], object] = lambda: None,
    normalisation: Normalisation | None = None,
) -> Tensor:
    """Trains one expert.

    Args:
        student: The network.
        theta: Initial parameters (P,).
        images: Real images (N, C, H, W), normalised.
        labels: Labels (N,) int64.
        recipe: The hyper-parameters.
        on_epoch: Called after every epoch.
        normalisation: The normalisation of the images, which kornia's augmentations undo; None if
            they are pixels.

    Returns:
        The expert's trajectory (train_epochs + 1, P).

    Raises:
        DivergenceError: If parameters become NaN or infinite.
    """
    augmentation = parse_augmentation(
        recipe.augmentation, align_corners=True, normalisation=normalisation
    )
    trajectory = [theta]
    for epoch in range(recipe.train_epochs):
        theta = _train_epoch(student, theta, images, labels, recipe, augmentation)
        if not bool(theta.norm().isfinite()):  # no use where squares overflow
            raise DivergenceError(
                f"an expert's parameters are not finite after epoch {epoch + 1}, or too large to "
                "compute with: lower `lr_teacher` "
                f"(now {recipe.lr_teacher}) and check that the data are normalised"
            )
        trajectory.append(theta)
        on_epoch()
    return torch.stack(trajectory)


def _train_epoch(
    student: FunctionalNetwork,
    theta: Tensor,
    images: Tensor,
    labels: Tensor,
    recipe: ExpertRecipe,
    augmentation: Augmentation,
) -> Tensor:
    height, width = images.shape[2:]
    order = torch.randperm(len(images)).to(images.device)
    for index in torch.split(order, recipe.batch_train):
        batch = augmentation.draw((height, width), len(index))(images[index])
        batch_labels = labels[index]

        def gradient(at: Tensor, batch: Tensor = batch, y: Tensor = batch_labels) -> Tensor:
            return student.mean_gradient(at, batch, y)

        if recipe.optimizer == "gsam":
            direction = gsam_direction(gradient, theta, rho=recipe.rho, alpha=recipe.alpha)
        else:
            direction = gradient(theta)
        theta = theta - recipe.lr_teacher * direction
    return theta


def fill_store(
    store: ExpertStore,
    data: RealData,
    network: str,
    recipe: ExpertRecipe,
    *,
    num_experts: int,
    seed: int,
    accelerator: Accelerator,
    workers: Workers = SERIAL,
    on_epoch: Callable[[], object] = lambda: None,
    say: Callable[[str], object] = lambda line: None,
) -> None:
    """Trains the experts that a store still lacks; processes share the work.

    Expert k does not depend on which process trains it, or when. A killed run therefore continues
    when it is started again.

    Args:
        store: The store to which the experts are added.
        data: The real data: experts are trained on the training images, and their accuracies are
            measured on the test images.
        network: See [`create_network`][sdc_ext.networks.create_network].
        recipe: The hyper-parameters.
        num_experts: The number of experts that the store is to have in the end.
        seed: Seeds initialisations, the order of images and augmentations.
        accelerator: Determines the device and this process's share of the work.
        workers: The workers that train experts side by side.
        on_epoch: Called once for every epoch of this process, or of its workers.
        say: Called with a line about workers that were lost.

    Raises:
        DivergenceError: If parameters become NaN or infinite.
    """
    mine = range(num_experts)[accelerator.process_index :: accelerator.num_processes]
    missing = [k for k in mine if not store.has(k)]
    epochs = Steps(on_epoch, recipe.train_epochs)
    training = _Training(store, data, network, recipe, seed, accelerator, epochs)
    failures: list[str] = []
    try:
        workers.map(_Training.add, training, missing, on_done=epochs.end_cell, say=say)
    except DivergenceError as error:
        failures.append(str(error))
    for failure in gather_object(failures):  # raised in all processes, so that none waits
        raise DivergenceError(failure)


@dataclass(frozen=True)
class _Training:
    """The training of the experts of a store, any of which can be trained by itself."""

    store: ExpertStore
    data: RealData
    network: str
    recipe: ExpertRecipe
    seed: int
    accelerator: Accelerator
    epochs: Steps

    @cached_property
    def _train(self) -> tuple[Tensor, Tensor]:
        batches = normalized_batches(self.data, self.data.train, self.accelerator.device)
        images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
        return images, labels

    @cached_property
    def _test(self) -> list[tuple[Tensor, Tensor]]:
        return normalized_batches(self.data, self.data.test, self.accelerator.device)

    def add(self, k: int) -> None:
        """Trains expert k and adds it to the store."""
        seed_torch(self.seed, "expert", k)
        model = create_network(self.network, *self.data.network_shape)
        student = FunctionalNetwork(model.to(self.accelerator.device).train())
        trajectory = train_expert(
            student,
            student.initial_parameters(),
            *self._train,
            self.recipe,
            self.epochs.take,
            self.data.preprocessing,
        )
        vector_to_parameters(trajectory[-1], model.parameters())
        self.store.add(k, trajectory, accuracy(model, self._test))

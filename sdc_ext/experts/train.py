"""Expert trajectories: networks trained on the real data, with their parameters every epoch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor
from torch.nn.utils import vector_to_parameters

from sdc_ext._options import option
from sdc_ext._seeds import seed_torch
from sdc_ext.augment.base import Augmentation
from sdc_ext.augment.parse import parse_augmentation
from sdc_ext.data.real import RealData
from sdc_ext.errors import DivergenceError, check_choice, check_not_negative, check_positive
from sdc_ext.experts.gsam import gsam_direction
from sdc_ext.experts.store import ExpertStore
from sdc_ext.networks.create import create_network
from sdc_ext.networks.functional import FunctionalNetwork
from sdc_ext.training.epochs import accuracy, normalized_batches

ExpertOptimizer = Literal["sgd", "gsam"]


@dataclass(frozen=True)
class ExpertRecipe:
    """How the originals train experts: by SGD without momentum and weight decay (MTT, TESLA), or
    by GSAM around it (FTD, DATM), at a constant rate, with one augmentation a batch whose
    parameters are drawn an image.

    A trajectory has one entry more than epochs, the initial parameters first.

    Raises:
        InputError: for an unknown optimiser or augmentation, or a number that is not above 0.
    """

    optimizer: ExpertOptimizer = option("sgd", "plain SGD, or GSAM around it")
    train_epochs: int = option(50, "epochs of real data")
    lr_teacher: float = option(0.01, "learning rate")
    batch_train: int = option(256, "real images a step")
    rho: float = option(0.01, "GSAM's perturbation")
    alpha: float = option(0.4, "GSAM's weight of the surrogate gap")
    augmentation: str = option("color_crop_cutout_flip_scale_rotate", "of real images, or none")

    def __post_init__(self) -> None:
        check_choice("optimizer", self.optimizer, get_args(ExpertOptimizer))
        check_positive(self, "train_epochs", "lr_teacher", "batch_train", "rho")
        check_not_negative(self, "alpha")
        parse_augmentation(self.augmentation, align_corners=True)

    @property
    def label(self) -> str:
        """A short name that tells recipes of the originals apart."""
        return f"gsam{self.alpha:g}" if self.optimizer == "gsam" else self.optimizer


def train_expert(
    student: FunctionalNetwork,
    theta: Tensor,
    images: Tensor,
    labels: Tensor,
    recipe: ExpertRecipe,
    on_epoch: Callable[[], object] = lambda: None,
) -> Tensor:
    """Trains one expert.

    Args:
        student: the network.
        theta: initial parameters (P,).
        images: (N, C, H, W), normalised.
        labels: (N,) int64.
        recipe: how.
        on_epoch: called after every epoch.

    Returns:
        Its trajectory (train_epochs + 1, P).

    Raises:
        DivergenceError: if parameters become NaN or infinite.
    """
    augmentation = parse_augmentation(recipe.augmentation, align_corners=True)
    trajectory = [theta]
    for epoch in range(recipe.train_epochs):
        theta = _train_epoch(student, theta, images, labels, recipe, augmentation)
        if not bool(theta.isfinite().all()):
            raise DivergenceError(
                f"an expert's parameters are not finite after epoch {epoch}: lower --lr-teacher "
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
    on_epoch: Callable[[], object] = lambda: None,
) -> None:
    """Trains the experts that a store still lacks; processes share the work.

    Expert k is the same whoever trains it and whenever, so that a killed run is continued by
    running it again.

    Args:
        store: where to put them.
        data: its training split is learnt, its test split measures accuracies.
        network: see [`create_network`][sdc_ext.networks.create_network].
        recipe: how to train.
        num_experts: how many the store shall have.
        seed: of initialisations, orders and augmentations.
        accelerator: where to run.
        on_epoch: called after every epoch of this process.

    Raises:
        DivergenceError: if parameters become NaN or infinite.
    """
    mine = range(num_experts)[accelerator.process_index :: accelerator.num_processes]
    failures: list[str] = []
    try:
        missing = [k for k in mine if not store.has(k)]
        if missing:
            _train_missing(store, data, network, recipe, missing, seed, accelerator, on_epoch)
    except DivergenceError as error:
        failures.append(str(error))
    for failure in gather_object(failures):  # on all processes, so that none waits for another
        raise DivergenceError(failure)


def _train_missing(
    store: ExpertStore,
    data: RealData,
    network: str,
    recipe: ExpertRecipe,
    missing: list[int],
    seed: int,
    accelerator: Accelerator,
    on_epoch: Callable[[], object],
) -> None:
    device = accelerator.device
    train = normalized_batches(data, data.train, device)
    images, labels = (torch.cat(parts) for parts in zip(*train, strict=True))
    test = normalized_batches(data, data.test, device)
    for k in missing:
        seed_torch(seed, "expert", k)
        model = create_network(network, *data.network_shape)
        student = FunctionalNetwork(model.to(device).train())
        trajectory = train_expert(
            student, student.initial_parameters(), images, labels, recipe, on_epoch
        )
        vector_to_parameters(trajectory[-1], model.parameters())
        store.add(k, trajectory, accuracy(model, test))

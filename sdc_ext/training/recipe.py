"""Trains networks on distilled sets, with the schedule of the original repositories."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.optim import SGD

from sdc_ext.augment.base import Normalisation
from sdc_ext.augment.parse import parse_augmentation
from sdc_ext.training.epochs import train_epoch
from sdc_ext.training.gradients import BatchLoss


@dataclass(frozen=True)
class TrainingRecipe:
    """Hyper-parameters for training a network on a distilled set before testing it.

    The schedule is that of the original repositories.

    Attributes:
        epochs: The nominal number of epochs E. There are E + 1 passes over the set, and the
            learning rate drops tenfold after E // 2 + 2 of them.
        lr: The learning rate before the drop.
        momentum: The momentum of SGD. It restarts from zero when the rate drops, as in the
            original code.
        weight_decay: The weight decay of SGD.
        batch_size: The number of images per step.
        augmentation: See [`parse_augmentation`][sdc_ext.augment.parse_augmentation].
        align_corners: See [`SiameseAugmentation`][sdc_ext.augment.SiameseAugmentation].
    """

    epochs: int
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 0.0005
    batch_size: int = 256
    augmentation: str = "none"
    align_corners: bool = False


def train_from_scratch(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    recipe: TrainingRecipe,
    batch_loss: BatchLoss,
    normalisation: Normalisation | None = None,
) -> None:
    """Trains a network on a distilled set with the schedule of the original repositories.

    Args:
        network: The network, freshly initialised.
        images: Images (N, C, H, W), normalised, on the network's device.
        labels: Labels (N,) int64, or (N, classes) probabilities.
        recipe: The hyper-parameters.
        batch_loss: Computes the loss of each chunk of a batch.
        normalisation: The normalisation of the images, which kornia's augmentations undo; None if
            they are pixels.
    """
    augmentation = parse_augmentation(
        recipe.augmentation, align_corners=recipe.align_corners, normalisation=normalisation
    )
    network.train()
    follow_schedule(
        list(network.parameters()),
        recipe,
        lambda optimizer: train_epoch(
            network,
            optimizer,
            images,
            labels,
            batch_size=recipe.batch_size,
            augmentation=augmentation,
            batch_loss=batch_loss,
        ),
    )


def follow_schedule(
    parameters: Sequence[Tensor], recipe: TrainingRecipe, train: Callable[[SGD], object]
) -> None:
    """Calls ``train`` for every pass over the set, with an optimiser of the parameters.

    The optimiser is a new one when the learning rate drops, which restarts the momentum.
    """

    def sgd(lr: float) -> SGD:
        return SGD(parameters, lr=lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay)

    optimizer = sgd(recipe.lr)
    for epoch in range(recipe.epochs + 1):
        if epoch == recipe.epochs // 2 + 2:
            optimizer = sgd(recipe.lr * 0.1)
        train(optimizer)

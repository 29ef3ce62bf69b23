"""How a network is trained on a distilled set before it is tested."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.optim import SGD

from sdc_ext.augment.parse import parse_augmentation
from sdc_ext.training.epochs import train_epoch
from sdc_ext.training.gradients import BatchLoss


@dataclass(frozen=True)
class TrainingRecipe:
    """How the originals train a network on a distilled set before testing it.

    Attributes:
        epochs: E; there are E + 1 passes, and the rate drops tenfold after pass E // 2 + 1.
        lr: learning rate of the first half.
        momentum: of SGD; its memory is lost when the rate drops, as in the originals.
        weight_decay: of SGD.
        batch_size: images a step.
        augmentation: see [`parse_augmentation`][sdc_ext.augment.parse_augmentation].
        align_corners: of its scale and rotate.
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
) -> None:
    """Trains a network on a distilled set by the originals' schedule.

    Args:
        network: freshly initialised.
        images: (N, C, H, W), normalised, on its device.
        labels: (N,) int64, or (N, classes) probabilities.
        recipe: see [`TrainingRecipe`][sdc_ext.training.TrainingRecipe].
        batch_loss: how to compute a batch.
    """
    augmentation = parse_augmentation(recipe.augmentation, align_corners=recipe.align_corners)

    def sgd(lr: float) -> SGD:
        return SGD(
            network.parameters(),
            lr=lr,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
        )

    network.train()
    optimizer = sgd(recipe.lr)
    for epoch in range(recipe.epochs + 1):
        if epoch == recipe.epochs // 2 + 2:
            optimizer = sgd(recipe.lr * 0.1)
        train_epoch(
            network,
            optimizer,
            images,
            labels,
            batch_size=recipe.batch_size,
            augmentation=augmentation,
            batch_loss=batch_loss,
        )

"""Trains networks on distilled sets, by default with the schedule of the original repositories."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from sdc_ext._values import Count, Decay, LearntRate, Temperature, Weight, check_fields
from sdc_ext._words import number_of
from sdc_ext.augment.base import Normalisation
from sdc_ext.augment.mix import parse_mix
from sdc_ext.augment.parse import parse_augmentation
from sdc_ext.training.epochs import train_epoch
from sdc_ext.training.gradients import BatchLoss
from sdc_ext.training.label_loss import LabelLoss, LabelLossName

OptimizerName: TypeAlias = Literal["sgd", "adamw"]

ScheduleName: TypeAlias = Literal["step", "halfway", "multistep", "cosine", "constant"]


@dataclass(frozen=True)
class TrainingRecipe:
    """Hyper-parameters for training a network on a distilled set before testing it.

    The defaults are those of DC's repository, which most others share.

    Attributes:
        epochs: The nominal number of epochs E, i.e. of passes over the set. The schedule
            ``"step"`` makes one more.
        lr: The learning rate at the beginning.
        momentum: The momentum of SGD, or the first beta of AdamW.
        weight_decay: The weight decay of the optimiser.
        batch_size: The number of images per step.
        augmentation: See [`parse_augmentation`][sdc_ext.augment.parse_augmentation].
        align_corners: See [`SiameseAugmentation`][sdc_ext.augment.SiameseAugmentation].
        optimizer: ``"sgd"`` or ``"adamw"``.
        schedule: How the learning rate falls. ``"step"``: it drops tenfold after E // 2 + 2 of
            E + 1 epochs, and the optimiser starts anew, as in DC's and MTT's scripts.
            ``"halfway"``: it drops tenfold after E // 2 epochs, as in DD-Ranking's settings.
            ``"multistep"``: it drops fivefold after 2 E // 3 and again after 5 E // 6 epochs, as
            in IDC's script. ``"cosine"``: it falls to 0 along half a cosine. ``"constant"``: it
            stays.
        mix: The mixing of images with each other after their augmentation; see
            [`parse_mix`][sdc_ext.augment.parse_mix].
        label_loss: The loss of labels that are probabilities, ``"cross_entropy"`` or ``"kl"``.
            Their gradients are the same.
        temperature: Softens labels that are probabilities, and what they are compared with.

    Raises:
        InputError: If a number is out of range, or the mix is unknown.
    """

    epochs: Count
    lr: LearntRate = 0.01
    momentum: Decay = 0.9
    weight_decay: Weight = 0.0005
    batch_size: Count = 256
    augmentation: str = "none"
    align_corners: bool = False
    optimizer: OptimizerName = "sgd"
    schedule: ScheduleName = "step"
    mix: str = "none"
    label_loss: LabelLossName = "cross_entropy"
    temperature: Temperature = 1.0

    def __post_init__(self) -> None:
        check_fields(self)
        parse_mix(self.mix)

    @property
    def words(self) -> str:
        """The recipe in words, without what has the default value."""
        parts = [
            f"{number_of(self.epochs, 'epoch')} of {self.optimizer}",
            f"learning rate {self.lr:g} ({self.schedule})",
            f"batches of {self.batch_size}",
            f"augmentation {self.augmentation}",
        ]
        if self.mix != "none":
            parts.append(f"mix {self.mix}")
        if self.loss != LabelLoss():
            parts.append(f"loss {self.label_loss} at temperature {self.temperature:g}")
        return ", ".join(parts)

    @property
    def loss(self) -> LabelLoss:
        """The loss of the set's labels."""
        return LabelLoss(self.label_loss, self.temperature)


def train_from_scratch(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    recipe: TrainingRecipe,
    batch_loss: BatchLoss,
    normalisation: Normalisation | None = None,
) -> None:
    """Trains a network on a distilled set as its recipe says.

    Args:
        network: The network, freshly initialised.
        images: Images (N, C, H, W), normalised, on the network's device.
        labels: Labels (N,) int64, or (N, classes) probabilities.
        recipe: The hyper-parameters.
        batch_loss: Computes the loss of each chunk of a batch, which the recipe names.
        normalisation: The normalisation of the images, which kornia's augmentations undo; None if
            they are pixels.
    """
    augmentation = parse_augmentation(
        recipe.augmentation, align_corners=recipe.align_corners, normalisation=normalisation
    )
    loss, labels = loss_and_labels(network, images, labels, recipe)
    batch_loss, mix = batch_loss.with_label_loss(loss), parse_mix(recipe.mix)
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
            mix=mix,
            batch_loss=batch_loss,
        ),
    )


def loss_and_labels(
    network: nn.Module, images: Tensor, labels: Tensor, recipe: TrainingRecipe
) -> tuple[LabelLoss, Tensor]:
    """Returns a recipe's loss, and the labels as it takes them: softened, and fit to be mixed.

    Args:
        network: A network of the architecture, from which the number of classes is read.
        images: Images (N, C, H, W), normalised, on the network's device.
        labels: Labels (N,) int64, or (N, classes) probabilities.
        recipe: The hyper-parameters.
    """
    if labels.ndim == 2:
        return recipe.loss, recipe.loss.soften(labels)
    if parse_mix(recipe.mix).changes:
        with torch.no_grad():  # in evaluation mode, so that neither statistics nor draws change
            classes = network.eval()(images[:1]).shape[1]
        labels = F.one_hot(labels, classes).to(images.dtype)
    return LabelLoss(), labels


def follow_schedule(
    parameters: Sequence[Tensor], recipe: TrainingRecipe, train: Callable[[Optimizer], object]
) -> None:
    """Calls ``train`` for every pass over the set, with an optimiser of the parameters."""
    passes = recipe.epochs + 1 if recipe.schedule == "step" else recipe.epochs
    optimizer, before = _make_optimizer(parameters, recipe, recipe.lr), 1.0
    for epoch in range(passes):
        factor = rate_factor(recipe.schedule, epoch, recipe.epochs)
        if factor != before and recipe.schedule == "step":
            optimizer = _make_optimizer(parameters, recipe, recipe.lr * factor)
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * factor
        train(optimizer)
        before = factor


def rate_factor(schedule: ScheduleName, epoch: int, epochs: int) -> float:
    """Returns the learning rate of an epoch as a part of the first one.

    Args:
        schedule: See [`TrainingRecipe`][sdc_ext.training.TrainingRecipe].
        epoch: The number of the epoch, from 0.
        epochs: The nominal number of epochs.
    """
    if schedule == "step":
        return 0.1 if epoch >= epochs // 2 + 2 else 1.0
    if schedule == "halfway":
        return 0.1 if epoch >= max(epochs // 2, 1) else 1.0
    if schedule == "multistep":
        drops = (max(part, 1) for part in (2 * epochs // 3, 5 * epochs // 6))
        return float(0.2 ** sum(epoch >= drop for drop in drops))
    if schedule == "cosine":
        return (1 + math.cos(math.pi * epoch / epochs)) / 2
    return 1.0


def _make_optimizer(parameters: Sequence[Tensor], recipe: TrainingRecipe, lr: float) -> Optimizer:
    if recipe.optimizer == "adamw":
        betas = (recipe.momentum, 0.999)
        return AdamW(parameters, lr=lr, betas=betas, weight_decay=recipe.weight_decay)
    return SGD(parameters, lr=lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay)

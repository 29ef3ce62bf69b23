"""The hyper-parameters for training experts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from sdc_ext._options import option
from sdc_ext._values import Count, Rate, Weight, check_fields
from sdc_ext.augment.parse import parse_augmentation
from sdc_ext.training.protocols import DSA

ExpertOptimizer = Literal["sgd", "gsam"]

# What the batches of experts on small data are made for.
_STEPS_PER_EPOCH = 30

_SMALLEST_BATCH = 16


@dataclass(frozen=True)
class ExpertRecipe:
    """Hyper-parameters for training experts, as the original repositories train them.

    Experts are trained by SGD without momentum and weight decay (MTT, TESLA), or by GSAM on top of
    it (FTD, DATM), at a constant learning rate. Each batch gets one augmentation, whose parameters
    are drawn for each image. A trajectory has one entry more than epochs: the initial parameters
    come first.

    Attributes:
        optimizer: ``"sgd"`` or ``"gsam"``.
        train_epochs: The number of epochs.
        lr_teacher: The learning rate.
        batch_train: The number of real images per step.
        rho: The size of GSAM's perturbation.
        alpha: The weight of GSAM's surrogate gap.
        augmentation: See [`parse_augmentation`][sdc_ext.augment.parse_augmentation].

    Raises:
        InputError: If the optimiser or the augmentation is unknown, or a number is out of range.
    """

    optimizer: ExpertOptimizer = option("sgd", "sgd, or gsam on top of it")
    train_epochs: Count = option(50, "epochs on the real images")
    lr_teacher: Rate = option(0.01, "learning rate of the experts")
    batch_train: Count = option(256, "real images per step")
    rho: Rate = option(0.01, "size of GSAM's perturbation")
    alpha: Weight = option(0.4, "weight of GSAM's surrogate gap")
    augmentation: str = option(DSA, "augmentation of the real images, or none")

    def __post_init__(self) -> None:
        check_fields(self)
        parse_augmentation(self.augmentation, align_corners=True)

    def suited_to(self, images: int) -> ExpertRecipe:
        """Returns the recipe with batches of a size that suits a number of training images.

        The original batch of 256 leaves experts on small data too few steps per epoch to learn. It
        is halved until an epoch has 30 steps, but not below 16 images.
        """
        batch = self.batch_train
        while batch > _SMALLEST_BATCH and images < _STEPS_PER_EPOCH * batch:
            batch = max(batch // 2, _SMALLEST_BATCH)
        return replace(self, batch_train=batch)

    @property
    def label(self) -> str:
        """A short name that distinguishes the recipes of the original repositories."""
        return f"gsam{self.alpha:g}" if self.optimizer == "gsam" else self.optimizer

"""Evaluation as the originals do it: train fresh networks on the set, test on real images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.optim import SGD

from sdc_ext.augment import parse_augmentation
from sdc_ext.data import RealData, normalized_batches
from sdc_ext.networks import create_network
from sdc_ext.seeds import seed_torch
from sdc_ext.synthetic import TrainingRecipe
from sdc_ext.training import BatchLoss, accuracy, train_epoch


@dataclass(frozen=True)
class Evaluation:
    """Test accuracies of networks trained from scratch on one set.

    Attributes:
        network: the architecture.
        accuracies: one a network, in [0, 1].
    """

    network: str
    accuracies: tuple[float, ...]

    @property
    def mean(self) -> float:
        return float(torch.tensor(self.accuracies, dtype=torch.float64).mean())

    @property
    def std(self) -> float:
        """Population standard deviation over the networks, as the originals report it."""
        return float(torch.tensor(self.accuracies, dtype=torch.float64).std(correction=0))

    def row(self, iteration: int, what: str = "images") -> dict[str, Any]:
        """Its entry in ``meta.json``: of ``what`` after ``iteration`` outer iterations."""
        return {
            "iteration": iteration,
            "of": what,
            "network": self.network,
            "mean": self.mean,
            "std": self.std,
            "accuracies": list(self.accuracies),
        }

    def __str__(self) -> str:
        return f"{100 * self.mean:.2f} ± {100 * self.std:.2f} %"


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
        recipe: see :class:`~sdc_ext.synthetic.TrainingRecipe`.
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


def evaluate(
    images: Tensor,
    labels: Tensor,
    data: RealData,
    recipe: TrainingRecipe,
    *,
    network: str,
    num_eval: int,
    seed: int,
    accelerator: Accelerator,
    compile: bool = False,
    on_network: Callable[[], object] = lambda: None,
) -> Evaluation:
    """Trains ``num_eval`` networks on a set and tests them; processes share the work.

    Network k starts from the same weights for every set and iteration, so that comparisons
    under one seed are paired.

    Args:
        images: (N, C, H, W), normalised as ``data`` normalises.
        labels: (N,) int64, or (N, classes) probabilities.
        data: its test split is used.
        recipe: how to train.
        network: what to train; see :func:`~sdc_ext.networks.create_network`.
        num_eval: how many networks.
        seed: their initialisations and augmentations.
        accelerator: where to run.
        compile: compile training and testing; pays where ``num_eval`` or the test set is large.
        on_network: called after every network that this process has tested.
    """
    device = accelerator.device
    images, labels = images.detach().to(device), labels.to(device)
    test = normalized_batches(data, data.test, device)
    batch_loss = BatchLoss(bf16=accelerator.mixed_precision == "bf16", compile=compile)
    tested = []
    for k in range(num_eval)[accelerator.process_index :: accelerator.num_processes]:
        seed_torch(seed, "evaluation", k)
        model = create_network(network, data.channels, len(data.classes), data.image_size)
        model.to(device)
        train_from_scratch(model, images, labels, recipe, batch_loss)
        tested.append((k, accuracy(model, test, batch_loss)))
        on_network()
    return Evaluation(network, tuple(a for _, a in sorted(gather_object(tested))))

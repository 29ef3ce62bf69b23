"""Trains a network for one epoch, and measures its accuracy."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sdc_ext.augment.base import Augmentation
from sdc_ext.augment.mix import NO_MIX, Mix
from sdc_ext.data.real import RealData, Split
from sdc_ext.networks.chunks import forward_chunk_size, split_batch
from sdc_ext.training.gradients import PLAIN_LOSS, BatchLoss, mean_gradient


def train_epoch(
    network: nn.Module,
    optimizer: Optimizer,
    images: Tensor,
    labels: Tensor,
    *,
    batch_size: int,
    augmentation: Augmentation,
    mix: Mix = NO_MIX,
    batch_loss: BatchLoss = PLAIN_LOSS,
) -> None:
    """Trains on a labelled set once, in random order; each image is augmented independently.

    Args:
        network: The network, in training mode.
        optimizer: The optimiser of its parameters.
        images: Images (N, C, H, W), normalised, on the network's device.
        labels: Labels (N,) int64, or (N, classes) probabilities.
        batch_size: The number of images per step; the last batch may be smaller.
        augmentation: The augmentation, drawn anew for every batch.
        mix: The mixing of augmented images, which needs labels (N, classes).
        batch_loss: Computes the loss of each chunk of a batch.
    """
    height, width = images.shape[2:]
    parameters = [p for p in network.parameters() if p.requires_grad]
    for index in torch.split(torch.randperm(len(images)).to(images.device), batch_size):
        batch = augmentation.draw((height, width), len(index))(images[index])
        batch, targets = mix.draw((height, width), len(index))(batch, labels[index])
        gradients = mean_gradient(network, batch, targets, batch_loss=batch_loss)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()


@torch.inference_mode()
def accuracy(
    network: nn.Module,
    batches: Sequence[tuple[Tensor, Tensor]],
    batch_loss: BatchLoss = PLAIN_LOSS,
) -> float:
    """Returns the fraction of correctly classified images, in [0, 1].

    Args:
        network: The network, which this call puts into evaluation mode.
        batches: Pairs of images (B, C, H, W) and labels (B,), normalised, on the network's
            device.
        batch_loss: Counts the correct images of each batch.
    """
    network.eval()
    correct = sum(batch_loss.count_correct(network, x, y) for x, y in batches)
    return correct / sum(len(y) for _, y in batches)


def normalized_batches(
    data: RealData, split: Split, device: torch.device
) -> list[tuple[Tensor, Tensor]]:
    """Returns a split as pairs of images (B, C, H, W) and labels (B,), normalised, on a device."""
    size = forward_chunk_size(split.images, device)
    return [
        (data.normalize(x.to(device)), y.to(device))
        for x, y in split_batch(split.images, split.labels, size)
    ]

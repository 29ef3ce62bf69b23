"""Batches in pieces that suit the device, where the network lets a batch be cut."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

# 64 images of 28x28: what was fastest on the CPUs measured (benchmarks/gm_step.py).
_CHUNK_PIXELS = 64 * 28 * 28


def default_chunk_size(images: Tensor, pixels: int | None = None) -> int:
    """How many of these images to send through a network at once; on CPUs, ``pixels`` in all."""
    if images.device.type != "cpu":
        return len(images)
    height, width = images.shape[2:]
    return max(1, (pixels or _CHUNK_PIXELS) // (height * width))


def uses_batch_statistics(network: nn.Module) -> bool:
    """Whether an image's output depends on the rest of its batch (training batch norm)."""
    return any(
        isinstance(m, _BatchNorm) and (m.training or m.running_mean is None)
        for m in network.modules()
    )


def split_batch(images: Tensor, labels: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Parts of at most ``size`` images with their labels, in order."""
    return zip(torch.split(images, size), torch.split(labels, size), strict=True)

"""Splits batches into chunks that suit the device, where the network allows it."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

# 64 images of 28x28 pixels were fastest on the CPUs measured (benchmarks/gm_step.py).
_CHUNK_PIXELS = 64 * 28 * 28

# On other devices all images at once would be fastest, but may not fit into memory.
_MOST_AT_ONCE = 1024


def default_chunk_size(images: Tensor, pixels: int | None = None) -> int:
    """Returns how many of these images to pass through a network at once.

    Args:
        images: The images (B, C, H, W).
        pixels: The number of pixels in a chunk on CPUs, by default 64 images of 28x28. Other
            devices take the whole batch.
    """
    if images.device.type != "cpu":
        return len(images)
    return _size_on_cpus(images, pixels or _CHUNK_PIXELS)


def forward_chunk_size(images: Tensor, device: torch.device) -> int:
    """Returns how many of many images to pass through a network at once without gradients.

    Args:
        images: The images (N, C, H, W), on any device.
        device: The device of the network.
    """
    return _MOST_AT_ONCE if device.type != "cpu" else _size_on_cpus(images, _CHUNK_PIXELS)


def _size_on_cpus(images: Tensor, pixels: int) -> int:
    height, width = images.shape[2:]
    return max(1, pixels // (height * width))


def uses_batch_statistics(network: nn.Module) -> bool:
    """Returns whether an image's output depends on the rest of its batch.

    It does under batch norm in training mode or without running statistics.
    """
    return any(
        isinstance(m, _BatchNorm) and (m.training or m.running_mean is None)
        for m in network.modules()
    )


def split_batch(images: Tensor, labels: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields parts of at most ``size`` images with their labels, in order."""
    return zip(torch.split(images, size), torch.split(labels, size), strict=True)

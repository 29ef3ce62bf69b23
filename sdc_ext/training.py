"""Gradients and training on a set of images, a cache-sized chunk at a time.

The gradient of a mean loss is the sum of its chunks' gradients. On CPUs chunks take less memory
and are faster than the whole batch; on accelerators the whole batch is the default.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from sdc_ext.augment import Augmentation

# 64 images of 28x28: what was fastest on the CPUs measured (benchmarks/gm_step.py).
_CHUNK_PIXELS = 64 * 28 * 28

# Of a network's output (B, classes) and labels.
_Sum: TypeAlias = Callable[[Tensor, Tensor], Tensor]


def default_chunk_size(images: Tensor, pixels: int | None = None) -> int:
    """How many of these images to send through a network at once; on CPUs, ``pixels`` in all."""
    if images.device.type != "cpu":
        return len(images)
    height, width = images.shape[2:]
    return max(1, (pixels or _CHUNK_PIXELS) // (height * width))


class BatchLoss:
    """Cross-entropies of a batch and how much of it is right, in a chosen precision and compiled.

    For gradients that are not differentiated again: double backward in bfloat16 is a tenth off.

    Args:
        bf16: compute the network in bfloat16; parameters and gradients stay as they are.
        compile: compile the network for the shape that comes first; others run as they are, and
            so do networks with batch norm. Fresh networks of one architecture share the code.
    """

    def __init__(self, *, bf16: bool = False, compile: bool = False) -> None:
        self._bf16 = bf16
        self._compile = compile
        self._compiled: dict[_Sum, tuple[torch.Size, Callable[..., Tensor]]] = {}

    def __call__(self, network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """The summed loss (scalar) of images (B, C, H, W) and labels (B,) or (B, classes)."""
        return self._compute(_summed_loss, network, images, labels)

    def count_correct(self, network: nn.Module, images: Tensor, labels: Tensor) -> int:
        """How many of images (B, C, H, W) the network gives their labels (B,)."""
        return int(self._compute(_correct, network, images, labels))

    def _compute(self, what: _Sum, network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self._bf16):
            if self._compile and not any(isinstance(m, _BatchNorm) for m in network.modules()):
                if what not in self._compiled:
                    # Of a copy, since the network itself will go on to another mode.
                    function = partial(_functional, what, copy.deepcopy(network))
                    self._compiled[what] = images.shape, torch.compile(function, dynamic=False)
                shape, compiled = self._compiled[what]
                if images.shape == shape:
                    return compiled(dict(network.named_parameters()), images, labels)
            return what(network(images), labels)


def _summed_loss(output: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(output, labels, reduction="sum")


def _correct(output: Tensor, labels: Tensor) -> Tensor:
    return (output.argmax(-1) == labels).sum()


def _functional(
    what: _Sum, network: nn.Module, parameters: dict[str, Tensor], images: Tensor, labels: Tensor
) -> Tensor:
    return what(functional_call(network, parameters, (images,)), labels)


_PLAIN_LOSS = BatchLoss()


def uses_batch_statistics(network: nn.Module) -> bool:
    """Whether an image's output depends on the rest of its batch (training batch norm)."""
    return any(
        isinstance(m, _BatchNorm) and (m.training or m.running_mean is None)
        for m in network.modules()
    )


def split_batch(images: Tensor, labels: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Parts of at most ``size`` images with their labels, in order."""
    return zip(torch.split(images, size), torch.split(labels, size), strict=True)


def mean_gradient(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    chunk_size: int | None = None,
    batch_loss: BatchLoss = _PLAIN_LOSS,
) -> tuple[Tensor, ...]:
    """Gradient of the mean cross-entropy over a batch, detached.

    ``grad_theta 1/B sum_i L(x_i, y_i; theta)``

    Args:
        network: its parameters that require gradients are differentiated.
        images: (B, C, H, W), normalised.
        labels: (B,) int64, or (B, classes) probabilities.
        chunk_size: images at once; by default what suits the device. Networks that use batch
            statistics always see the whole batch.
        batch_loss: how to compute a chunk.

    Returns:
        One tensor a parameter, in the order of ``network.parameters()``; equal for any
        ``chunk_size`` up to rounding.
    """
    if uses_batch_statistics(network):
        chunk_size = len(images)
    elif chunk_size is None:
        chunk_size = default_chunk_size(images)
    parameters = [p for p in network.parameters() if p.requires_grad]
    total: list[Tensor] = []
    for chunk, chunk_labels in split_batch(images, labels, chunk_size):
        loss = batch_loss(network, chunk, chunk_labels) / len(images)
        gradient = torch.autograd.grad(loss, parameters, materialize_grads=True)
        if total:
            torch._foreach_add_(total, gradient)
        else:
            total = list(gradient)
    return tuple(total)


def differentiable_gradient(
    network: nn.Module, images: Tensor, labels: Tensor
) -> tuple[Tensor, ...]:
    """As :func:`mean_gradient`, in graph: it can be differentiated with respect to images."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    loss = F.cross_entropy(network(images), labels)
    return torch.autograd.grad(loss, parameters, create_graph=True, materialize_grads=True)


def train_epoch(
    network: nn.Module,
    optimizer: Optimizer,
    images: Tensor,
    labels: Tensor,
    *,
    batch_size: int,
    augmentation: Augmentation,
    batch_loss: BatchLoss = _PLAIN_LOSS,
) -> None:
    """One pass over a labelled set in random order, each image augmented on its own.

    Args:
        network: in training mode.
        optimizer: over its parameters.
        images: (N, C, H, W), normalised, on the network's device.
        labels: (N,) int64, or (N, classes) probabilities.
        batch_size: images a step.
        augmentation: drawn anew for every batch.
        batch_loss: how to compute a chunk.
    """
    height, width = images.shape[2:]
    parameters = [p for p in network.parameters() if p.requires_grad]
    for index in torch.split(torch.randperm(len(images)).to(images.device), batch_size):
        batch = augmentation.draw((height, width), len(index))(images[index])
        gradients = mean_gradient(network, batch, labels[index], batch_loss=batch_loss)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()


@torch.inference_mode()
def accuracy(
    network: nn.Module,
    batches: Sequence[tuple[Tensor, Tensor]],
    batch_loss: BatchLoss = _PLAIN_LOSS,
) -> float:
    """Share of correctly classified images, in [0, 1].

    Args:
        network: put into evaluation mode by this call.
        batches: (images (B, C, H, W), labels (B,)) pairs, normalised and on its device.
        batch_loss: how to compute a batch.
    """
    network.eval()
    correct = sum(batch_loss.count_correct(network, x, y) for x, y in batches)
    return correct / sum(len(y) for _, y in batches)

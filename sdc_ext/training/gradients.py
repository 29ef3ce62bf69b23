"""Gradients and training on a set of images, a cache-sized chunk at a time.

The gradient of a mean loss is the sum of its chunks' gradients. On CPUs chunks take less memory
and are faster than the whole batch; on accelerators the whole batch is the default.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from sdc_ext.networks.chunks import default_chunk_size, split_batch, uses_batch_statistics

# Of a network's output (B, classes) and labels.
_Sum: TypeAlias = Callable[[Tensor, Tensor], Tensor]


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


PLAIN_LOSS = BatchLoss()


def mean_gradient(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    chunk_size: int | None = None,
    batch_loss: BatchLoss = PLAIN_LOSS,
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
    """As ``mean_gradient``, in graph: it can be differentiated with respect to images."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    loss = F.cross_entropy(network(images), labels)
    return torch.autograd.grad(loss, parameters, create_graph=True, materialize_grads=True)

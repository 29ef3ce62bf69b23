"""Computes gradients of a batch's mean loss, in chunks that fit the cache.

The gradient of a mean loss is the weighted sum of its chunks' gradients. On CPUs chunks take less
memory and are faster than the whole batch; on accelerators the whole batch is the default.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from sdc_ext.errors import check_choice
from sdc_ext.networks.chunks import default_chunk_size, split_batch, uses_batch_statistics
from sdc_ext.training.label_loss import PLAIN, LabelLoss

# Maps a network's output (B, classes) and labels to a scalar.
_Sum: TypeAlias = Callable[[Tensor, Tensor], Tensor]


class BatchLoss:
    """Computes the summed loss of a batch, optionally in bfloat16 and compiled.

    The loss is the cross-entropy unless ``with_label_loss`` has chosen another one.

    It is meant for gradients that are not differentiated again, since double backward in bfloat16
    has relative errors of about a tenth.

    Args:
        bf16: Whether to compute the network in bfloat16; parameters and gradients keep their
            precision.
        compile: Whether to compile the network for the shape of the first batch. Other shapes,
            and networks with batch norm, run without compilation. New networks of the same
            architecture share the compiled code.
    """

    def __init__(self, *, bf16: bool = False, compile: bool = False) -> None:
        self._bf16 = bf16
        self._compile = compile
        self._label_loss = PLAIN
        self._compiled: dict[_Sum, tuple[torch.Size, Callable[..., Tensor]]] = {}

    @classmethod
    def of(cls, accelerator: Accelerator, *, compile: bool = False) -> BatchLoss:
        """Returns what computes losses in the precision of an Accelerator.

        Raises:
            InputError: If that is neither ``"no"`` nor ``"bf16"``.
        """
        check_choice("mixed precision", accelerator.mixed_precision, ["no", "bf16"])
        return cls(bf16=accelerator.mixed_precision == "bf16", compile=compile)

    def with_label_loss(self, label_loss: LabelLoss) -> BatchLoss:
        """Returns what computes another loss of the labels, with the same compiled code."""
        other = copy.copy(self)
        other._label_loss = label_loss
        return other

    def __call__(self, network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """Returns the summed loss of a batch, a scalar with its graph.

        Args:
            network: The network.
            images: Images (B, C, H, W), normalised.
            labels: Labels (B,) int64, or (B, classes) probabilities.
        """
        return self._compute(self._label_loss, network, images, labels)

    def count_correct(self, network: nn.Module, images: Tensor, labels: Tensor) -> int:
        """Returns how many of the images (B, C, H, W) are classified as their labels (B,)."""
        return int(self._compute(_correct, network, images, labels))

    def _compute(self, what: _Sum, network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self._bf16):
            if self._compile and not any(isinstance(m, _BatchNorm) for m in network.modules()):
                if what not in self._compiled:
                    # The copy keeps the mode that was compiled when the network changes its own.
                    function = partial(_functional, what, copy.deepcopy(network))
                    self._compiled[what] = images.shape, torch.compile(function, dynamic=False)
                shape, compiled = self._compiled[what]
                if images.shape == shape:
                    state = {**dict(network.named_parameters()), **dict(network.named_buffers())}
                    return compiled(state, images, labels)
            return what(network(images), labels)


def _correct(output: Tensor, labels: Tensor) -> Tensor:
    return (output.argmax(-1) == labels).sum()


def _functional(
    what: _Sum, network: nn.Module, state: dict[str, Tensor], images: Tensor, labels: Tensor
) -> Tensor:
    return what(functional_call(network, state, (images,)), labels)


PLAIN_LOSS = BatchLoss()


def mean_gradient(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    chunk_size: int | None = None,
    batch_loss: BatchLoss = PLAIN_LOSS,
) -> tuple[Tensor, ...]:
    """Returns the gradient of the mean loss over a batch, detached.

    ``grad_theta 1/B sum_i L(x_i, y_i; theta)``

    Args:
        network: The network; the gradient is by its parameters that require gradients.
        images: Images (B, C, H, W), normalised.
        labels: Labels (B,) int64, or (B, classes) probabilities.
        chunk_size: The number of images at once; by default it depends on the device. Networks
            that use batch statistics always see the whole batch.
        batch_loss: Computes the loss of each chunk.

    Returns:
        One tensor per parameter, in the order of ``network.parameters()``. The result does not
        depend on ``chunk_size``, up to rounding.
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
        elif len(chunk) == len(images):
            return gradient
        else:  # of their own, since autograd may give two parameters the same tensor
            total = [g.clone() for g in gradient]
    return tuple(total)


def differentiable_gradient(
    network: nn.Module, images: Tensor, labels: Tensor
) -> tuple[Tensor, ...]:
    """Returns the gradient of the mean cross-entropy over a batch, with its graph.

    It can be differentiated with respect to the images, which matching losses need.

    Args:
        network: The network; the gradient is by its parameters that require gradients.
        images: Images (B, C, H, W), normalised.
        labels: Labels (B,) int64, or (B, classes) probabilities.

    Returns:
        One tensor per parameter, in the order of ``network.parameters()``.
    """
    parameters = [p for p in network.parameters() if p.requires_grad]
    loss = F.cross_entropy(network(images), labels)
    return torch.autograd.grad(loss, parameters, create_graph=True, materialize_grads=True)

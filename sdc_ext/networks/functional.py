"""Treats a network as a function of one flat parameter vector, with its derivatives."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp
from torch.nn.modules.batchnorm import _BatchNorm

from sdc_ext.networks.chunks import default_chunk_size, split_batch, uses_batch_statistics
from sdc_ext.networks.kept_gradients import (
    CostlyResults,
    GradientGraph,
    KeptBytes,
    KeptGradient,
    Product,
    measure,
)
from sdc_ext.networks.trial import Trial

_MOST_SHAPES = 4


class FunctionalNetwork:
    """A network evaluated at any parameters theta (P,), in ``named_parameters()`` order.

    Losses are sums over samples, so that a batch can be differentiated in parts. Parameters of the
    network that require no gradient are part of theta, but constant: their derivatives are zero.

    Args:
        network: The architecture, in training or evaluation mode. Its own parameters serve only
            as ``initial_parameters``.
        compile: Whether to compile the derivatives for the first four batch shapes. Full and
            short minibatches, cut evenly, have no more than these. Further shapes, and networks
            with batch norm, run without compilation.

    Attributes:
        network: The architecture.
        num_parameters: The number of parameters P.
    """

    def __init__(self, network: nn.Module, *, compile: bool = False) -> None:
        parameters = dict(network.named_parameters())
        self.network = network
        self.num_parameters = sum(p.numel() for p in parameters.values())
        self._names = list(parameters)
        self._frozen = {name for name, p in parameters.items() if not p.requires_grad}
        self._shapes = [p.shape for p in parameters.values()]
        self._sizes = [p.numel() for p in parameters.values()]
        self._compile = compile and not any(isinstance(m, _BatchNorm) for m in network.modules())
        self._random: dict[bool, bool] = {}
        self._compiled: dict[tuple[str, torch.Size], Callable[..., Any]] = {}
        self._kept_bytes: dict[tuple[Any, ...], KeptBytes] = {}
        self._kept: WeakKeyDictionary[KeptGradient, int] = WeakKeyDictionary()

    def is_random(self, images: Tensor) -> bool:
        """Returns whether two calls with the same images (B, C, H, W) differ, as under dropout.

        They also do if the network uses a buffer that each call changes. A copy of the network is
        run to see that.
        """
        mode = self.network.training
        if mode not in self._random:
            self._random[mode] = Trial.of(self.network, images[:2].detach()).varies
        return self._random[mode]

    def initial_parameters(self) -> Tensor:
        """Returns the network's own parameters (P,), detached."""
        # torch's parameters_to_vector takes no parameters that are stored channels last.
        return _flat(tuple(p.detach() for p in self.network.parameters()))

    def __call__(self, theta: Tensor, images: Tensor) -> Tensor:
        """Returns the logits (B, classes) of images (B, C, H, W) at parameters ``theta`` (P,)."""
        return self._logits(self._parts(theta), images)

    def loss(self, theta: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        """Returns the summed cross-entropy of a batch, a scalar.

        Args:
            theta: Parameters (P,).
            images: Images (B, C, H, W), normalised.
            labels: Labels (B,) int64, or (B, classes) probabilities.
        """
        return self._loss(self._parts(theta), images, labels)

    def gradient(self, theta: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        """Returns the gradient ``g = grad_theta L`` (P,) of the summed loss, detached."""
        theta, images, labels = theta.detach(), images.detach(), labels.detach()
        if self._may_compile("gradient", images):
            compiled = self._compiled_for(("gradient", images.shape), grad(self._loss))
            return _flat(compiled(self._copies(theta), images, labels))
        with torch.enable_grad():
            leaf = theta.requires_grad_()
            loss = self.loss(leaf, images, labels)
        return torch.autograd.grad(loss, leaf)[0]

    def mean_gradient(self, theta: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        """Returns the gradient (P,) of the mean loss over a batch of any size, detached.

        It is computed chunk by chunk, as by [`mean_gradient`][sdc_ext.training.mean_gradient].
        """
        whole = uses_batch_statistics(self.network)
        size = len(images) if whole else default_chunk_size(images)
        return self.summed_gradient(theta, split_batch(images, labels, size)) / len(images)

    def summed_gradient(self, theta: Tensor, parts: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
        """Returns the sum of the gradients (P,) over parts (images, labels), detached."""
        total = torch.zeros_like(theta)
        for images, labels in parts:
            total += self.gradient(theta, images, labels)
        return total

    def gradient_product(
        self, theta: Tensor, images: Tensor, labels: Tensor, u: Tensor, *, hessian: bool
    ) -> Product:
        """Differentiates ``<u, g>`` for a constant vector u (P,); the results are detached.

        It uses double backward, or forward-over-reverse when compiled, since torch.compile cannot
        trace double backward. The two agree up to rounding.

        Args:
            theta: Parameters (P,).
            images: Images (B, C, H, W), normalised.
            labels: Labels (B,) int64, or (B, classes) probabilities, by which ``<u, g>`` is
                differentiated, too.
            u: The vector (P,).
            hessian: Whether to differentiate by theta.

        Returns:
            The derivatives by images (B, C, H, W); by labels (None if they are int64); and by
            theta, which is the Hessian-vector product ``H u`` (None unless ``hessian``).
        """
        soft = labels.is_floating_point()
        kind = f"product {hessian} {soft}"
        if not self._may_compile(kind, images):
            return self._graph(theta, images, labels).product(u, hessian=hessian)
        theta, images, labels = theta.detach(), images.detach(), labels.detach()
        compiled = self._compiled_for((kind, images.shape), _product(self._loss, soft, hessian))
        # Forward derivatives round relative to the scale of theta, so u is scaled to match it.
        length = torch.linalg.vector_norm(u)
        scale = torch.linalg.vector_norm(theta) / length if length > 0 else torch.ones_like(length)
        found = list(compiled(self._copies(theta), images, labels, self._copies(u * scale)))
        by_theta = _flat(found.pop()) / scale if hessian else None
        return found[0] / scale, found[1] / scale if soft else None, by_theta

    def kept_gradient(
        self, theta: Tensor, images: Tensor, labels: Tensor, *, whole: bool
    ) -> KeptGradient:
        """Returns the gradient of the summed loss with what a later ``gradient_product`` needs.

        It is never compiled, since torch.compile cannot trace double backward.

        Args:
            theta: Parameters (P,).
            images: Images (B, C, H, W), normalised.
            labels: Labels (B,) int64, or (B, classes) probabilities.
            whole: Whether to keep the whole graph, or only its costly results.
        """
        make = partial(self._graph, theta, images, labels)
        kept = make() if whole else CostlyResults(make)
        size = self.kept_bytes(theta, images, labels)
        self._kept[kept] = size.whole if whole else size.results
        return kept

    @property
    def all_kept_bytes(self) -> int:
        """The memory of all results of ``kept_gradient`` that still exist."""
        return sum(self._kept.values())

    def kept_bytes(self, theta: Tensor, images: Tensor, labels: Tensor) -> KeptBytes:
        """Returns the memory that a result of ``kept_gradient`` takes.

        The first call for a shape computes a gradient to measure it.

        Args:
            theta: Parameters (P,).
            images: Images (B, C, H, W), normalised.
            labels: Labels (B,) int64, or (B, classes) probabilities.
        """
        key = (images.shape, images.dtype, labels.dtype)
        if key not in self._kept_bytes:
            inputs = (theta, images, labels)
            self._kept_bytes[key] = measure(partial(self._graph, *inputs), inputs)
        return self._kept_bytes[key]

    def _graph(self, theta: Tensor, images: Tensor, labels: Tensor) -> GradientGraph:
        theta, images, labels = theta.detach(), images.detach(), labels.detach()
        soft = labels.is_floating_point()
        with torch.enable_grad():
            leaf = theta.requires_grad_()
            wanted = [images.requires_grad_(), *([labels.requires_grad_()] if soft else []), leaf]
            (g,) = torch.autograd.grad(self.loss(leaf, images, labels), leaf, create_graph=True)
        return GradientGraph(g, wanted)

    def _parts(self, theta: Tensor) -> tuple[Tensor, ...]:
        parts = torch.split(theta, self._sizes)
        return tuple(part.view(shape) for part, shape in zip(parts, self._shapes, strict=True))

    def _copies(self, theta: Tensor) -> tuple[Tensor, ...]:
        # torch.compile refuses forward derivatives along views.
        return tuple(part.clone() for part in self._parts(theta))

    def _logits(self, parts: tuple[Tensor, ...], images: Tensor) -> Tensor:
        parameters = {
            name: part.detach() if name in self._frozen else part
            for name, part in zip(self._names, parts, strict=True)
        }
        return cast(Tensor, functional_call(self.network, parameters, (images,)))

    def _loss(self, parts: tuple[Tensor, ...], images: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(self._logits(parts, images), labels, reduction="sum")

    def _may_compile(self, kind: str, images: Tensor) -> bool:
        known = [key for key in self._compiled if key[0] == kind]
        return self._compile and ((kind, images.shape) in known or len(known) < _MOST_SHAPES)

    def _compiled_for(
        self, key: tuple[str, torch.Size], function: Callable[..., Any]
    ) -> Callable[..., Any]:
        if key not in self._compiled:
            self._compiled[key] = torch.compile(function, dynamic=False)
        return self._compiled[key]


def _product(
    loss: Callable[..., Tensor], soft: bool, hessian: bool
) -> Callable[..., tuple[Any, ...]]:
    """Returns a function that differentiates ``<u, g>`` by forward-over-reverse.

    It takes (parameters, images, labels, u), with parameters and u as tuples of tensors, and
    returns the derivatives by images, by labels if ``soft``, and by parameters if ``hessian``.
    """
    argnums = ((1, 2) if soft else (1,)) + ((0,) if hessian else ())

    def product(
        parts: tuple[Tensor, ...], images: Tensor, labels: Tensor, u: tuple[Tensor, ...]
    ) -> tuple[Any, ...]:
        def gradients(parts: tuple[Tensor, ...]) -> tuple[Any, ...]:
            return cast("tuple[Any, ...]", grad(loss, argnums=argnums)(parts, images, labels))

        return cast("tuple[Any, ...]", jvp(gradients, (parts,), (u,))[1])

    return product


def _flat(parts: tuple[Tensor, ...]) -> Tensor:
    return torch.cat([part.flatten() for part in parts])

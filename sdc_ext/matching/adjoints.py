"""Differentiates the inner loop of trajectory matching by one of several adjoints.

``theta_{n+1} = theta_n - lr * g_n`` with ``g_n = grad_theta L(A(B_n); theta_n)``, for n < N.

An adjoint is a small immutable object that unrolls such a loop. Use ``Recompute``. ``Direct`` is
exact, too, but keeps the whole graph in memory; ``Tesla`` is an approximation.

``Recompute`` works as follows. Let v be the cotangent of theta_{n+1}, i.e. the derivative of the
outer loss with respect to it, let w_n be the cotangent of ||g_n||, and let
``u = -lr * v + w_n * g_n / ||g_n||``, which is the cotangent of g_n. The derivatives of
``<u, g_n>`` by images and labels are the contributions of step n to theirs. Its derivative by
theta_n is the Hessian-vector product ``H_n u``; adding it to v gives the cotangent of theta_n.
The step contributes ``-<g_n, v>`` to the derivative by lr. The norms enter through u alone, so
the correction costs one vector addition per step.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sdc_ext.errors import InputError
from sdc_ext.matching.budget import Forecast
from sdc_ext.matching.minibatches import Minibatch
from sdc_ext.matching.trail import Trail
from sdc_ext.networks.chunks import default_chunk_size, uses_batch_statistics
from sdc_ext.networks.functional import FunctionalNetwork
from sdc_ext.networks.kept_gradients import KeptBytes, KeptGradient

# 16 images of 32x32 pixels need little memory and were fast on the CPUs measured
# (benchmarks/tm_step.py).
_CHUNK_PIXELS = 16 * 32 * 32


def _alone(tensor: Tensor) -> Tensor:
    return tensor


@dataclass(frozen=True)
class Share:
    """The part of each minibatch that this process computes; by default all of it.

    Attributes:
        index: The index of this process.
        count: The number of processes.
        reduce: Sums a tensor over all processes.
    """

    index: int = 0
    count: int = 1
    reduce: Callable[[Tensor], Tensor] = field(default=_alone, repr=False)


@dataclass(frozen=True)
class InnerLoop:
    """The inner loop that an adjoint unrolls.

    Attributes:
        student: The network.
        params: Its initial parameters theta_0 (P,).
        images: Synthetic images (n, C, H, W), normalised.
        labels: Labels (n,) int64, or (n, classes) probabilities.
        lr: The step size, a scalar tensor.
        batches: One minibatch for each inner step.
    """

    student: FunctionalNetwork
    params: Tensor
    images: Tensor
    labels: Tensor
    lr: Tensor
    batches: Sequence[Minibatch]


class Adjoint(ABC):
    """A way to differentiate the inner loop."""

    @abstractmethod
    def unroll(self, loop: InnerLoop) -> tuple[Tensor, Tensor]:
        """Returns theta_N (P,) and the norms (N,), as [`unroll`][sdc_ext.matching.unroll] does."""


@dataclass(frozen=True)
class Direct(Adjoint):
    """Exact; keeps the graph of all inner steps, as MTT's code does.

    Its results can be differentiated any number of times, and networks may use dropout. Memory
    grows with N times the size of a minibatch, and every process computes the whole loop.

    Reference: Cazenavette et al., "Dataset Distillation by Matching Training Trajectories",
    Algorithm 1.
    """

    def unroll(self, loop: InnerLoop) -> tuple[Tensor, Tensor]:
        """See [`Adjoint`][sdc_ext.matching.Adjoint]."""
        theta = loop.params
        if not theta.requires_grad:
            theta = theta.detach().requires_grad_()
        norms = []
        for batch in loop.batches:
            augmented = batch.replay(loop.images[batch.rows])
            loss = loop.student.loss(theta, augmented, loop.labels[batch.rows]) / len(batch.rows)
            (g,) = torch.autograd.grad(loss, theta, create_graph=True)
            norms.append(torch.linalg.vector_norm(g))
            theta = theta - loop.lr * g
        return theta, torch.stack(norms)


@dataclass(frozen=True)
class StepByStep(Adjoint):
    """The base of the adjoints that recompute steps in the backward pass."""

    chunk_size: int | None = None
    share: Share = Share()
    memory_budget: float = 0

    _hessian: ClassVar[bool]

    def __post_init__(self) -> None:
        if self.chunk_size is not None and self.chunk_size < 1:
            raise InputError(f"chunk_size must be at least 1, got {self.chunk_size}")
        if not self.memory_budget >= 0:
            raise InputError(f"memory_budget must be at least 0, got {self.memory_budget}")

    def forecast(self, loop: InnerLoop) -> Forecast:
        """Returns which steps of a loop would be kept.

        The first call for a network computes the gradients of a few chunks, to measure them.
        """
        return self._sweep(loop).forecast(loop.params, loop.images, loop.labels)

    def unroll(self, loop: InnerLoop) -> tuple[Tensor, Tensor]:
        """See [`Adjoint`][sdc_ext.matching.Adjoint]."""
        if loop.student.is_random(loop.images):
            raise InputError(
                f"adjoint {type(self).__name__.lower()!r} recomputes each step, which dropout, or "
                "a buffer that each call changes, would alter: switch that off in the network, or "
                "use adjoint 'direct'"
            )
        sweep = self._sweep(loop)
        final, norms = _Unroll.apply(sweep, loop.params, loop.images, loop.labels, loop.lr)
        return final, norms

    def _sweep(self, loop: InnerLoop) -> _Sweep:
        return _Sweep(
            loop.student,
            loop.batches,
            self._hessian,
            self.chunk_size,
            self.share,
            self.memory_budget,
        )


@dataclass(frozen=True)
class Recompute(StepByStep):
    """Exact, in constant memory; recomputes steps in the backward pass (recommended).

    It processes a minibatch in chunks, so that memory depends neither on N nor on the size of the
    minibatch. The backward pass costs a second gradient and a Hessian-vector product per step.
    Its results can be differentiated once. Networks with dropout, or with a buffer that each call
    uses and changes, are refused, since their steps cannot be recomputed.

    With a memory budget, as many steps as fit are kept and not recomputed, the last ones first. A
    step keeps the results of its convolutions and matrix products, from which the rest of its
    graph is cheap to compute; where there is room for more than that, it keeps its whole graph.
    The backward pass frees each step that it has used. If it walks the same loop a second time
    (``retain_graph=True``), it recomputes all steps. Kept steps are not compiled.

    Args:
        chunk_size: The number of images at once; by default 16 of 32x32 pixels on CPUs and all
            of them elsewhere. Networks that use batch statistics see the whole minibatch.
        share: The part of each minibatch that this process computes; by default all of it.
        memory_budget: The memory in bytes for the steps that this process keeps of one student,
            in all loops together; infinity keeps the whole graph of every step. The parameters of
            the steps and the computation of one chunk take memory in addition.

    Raises:
        InputError: If ``chunk_size`` is below 1, or ``memory_budget`` is below 0.

    Reference: the SDC paper, Eq. 5 and 12, for the function that is differentiated; the
    docstring of this module derives its derivatives.
    """

    _hessian = True


@dataclass(frozen=True)
class Tesla(StepByStep):
    """An approximation; treats every theta_n as constant, so that no Hessian term remains.

    It costs less than ``Recompute`` and has the same arguments, limits and memory. The two agree
    for a single step; with more steps, the gradients by images and labels differ.

    Args:
        chunk_size: See [`Recompute`][sdc_ext.matching.Recompute].
        share: See [`Recompute`][sdc_ext.matching.Recompute].
        memory_budget: See [`Recompute`][sdc_ext.matching.Recompute].

    Raises:
        InputError: If ``chunk_size`` is below 1, or ``memory_budget`` is below 0.

    Reference: Cui et al., "Scaling Up Dataset Distillation to ImageNet-1K with Constant Memory",
    Section 3.
    """

    _hessian = False


class _Unroll(torch.autograd.Function):
    """Passes a sweep's derivatives to autograd."""

    @staticmethod
    def forward(
        ctx: Any, sweep: _Sweep, params: Tensor, images: Tensor, labels: Tensor, lr: Tensor
    ) -> tuple[Tensor, Tensor]:
        final, norms, ctx.trail = sweep.forward(params, images, labels, lr)
        ctx.sweep = sweep
        ctx.save_for_backward(images, labels, lr)
        ctx.set_materialize_grads(False)
        return final, norms

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v: Tensor | None, w: Tensor | None) -> tuple[Tensor | None, ...]:
        images, labels, lr = ctx.saved_tensors
        return None, *ctx.sweep.backward(ctx.trail, images, labels, lr, v, w)


@dataclass(frozen=True)
class _Sweep:
    """The forward and the backward pass through all inner steps."""

    student: FunctionalNetwork
    batches: Sequence[Minibatch]
    hessian: bool
    chunk_size: int | None
    share: Share
    memory_budget: float

    def forecast(self, theta: Tensor, images: Tensor, labels: Tensor) -> Forecast:
        """Returns which steps are kept, at any parameters theta (P,)."""
        of_length: dict[int, KeptBytes] = {}
        for rows in (batch.rows for batch in self.batches):
            if len(rows) not in of_length:
                chunks = self._chunks(images[rows], labels[rows])
                found = [self.student.kept_bytes(theta, x, y) for x, y in chunks]
                of_length[len(rows)] = KeptBytes(*map(sum, zip((0, 0), *found, strict=True)))
        step_bytes = [of_length[len(batch.rows)] for batch in self.batches]
        return Forecast.of(step_bytes, self.memory_budget - self.student.all_kept_bytes)

    def forward(
        self, params: Tensor, images: Tensor, labels: Tensor, lr: Tensor
    ) -> tuple[Tensor, Tensor, Trail]:
        trail = Trail(params)
        theta, norms = params.detach(), []
        choice = self.forecast(theta, images, labels) if self.memory_budget else None
        for n, batch in enumerate(self.batches):
            chunks = self._chunks(batch.replay(images[batch.rows]), labels[batch.rows])
            left = len(self.batches) - n
            if choice is None or left > choice.kept:
                total = self.student.summed_gradient(theta, chunks)
            else:
                keep = partial(self.student.kept_gradient, theta, whole=left <= choice.whole)
                trail.kept[n] = [keep(x, y) for x, y in chunks]
                total = sum((kept.gradient for kept in trail.kept[n]), torch.zeros_like(theta))
            g = self.share.reduce(total / len(batch.rows))
            trail.append(theta, g)
            norms.append(torch.linalg.vector_norm(g))
            theta = theta - lr * g
        return theta, torch.stack(norms), trail

    def backward(
        self,
        trail: Trail,
        images: Tensor,
        labels: Tensor,
        lr: Tensor,
        v: Tensor | None,
        w: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
        """Returns the cotangents of params, images, labels and lr.

        Args:
            trail: The parameters theta_n and the gradients g_n of all steps.
            images: Synthetic images (n, C, H, W).
            labels: Labels (n,) int64, or (n, classes) probabilities.
            lr: The step size, a scalar tensor.
            v: The cotangent of theta_N (P,); None for zero.
            w: The cotangents of the norms (N,); None for zero.
        """
        by_images, by_lr = torch.zeros_like(images), torch.zeros_like(lr)
        by_labels = torch.zeros_like(labels) if labels.is_floating_point() else None
        v = torch.zeros_like(trail.read(0)[0]) if v is None else v
        for n, batch in reversed(list(enumerate(self.batches))):
            theta, g = trail.read(n)
            by_lr -= torch.dot(g, v)
            u = -lr * v
            norm = torch.linalg.vector_norm(g)
            if w is not None and norm > 0:  # the norm's derivative at zero is defined as zero
                u += w[n] / norm * g
            # Popped, so that what is kept is freed, and is not used again.
            by_rows, by_row_labels, by_theta = self._step_back(
                batch, theta, u, images[batch.rows], labels[batch.rows], trail.kept.pop(n, None)
            )
            by_images.index_add_(0, batch.rows.to(images.device), by_rows)
            if by_labels is not None:
                by_labels.index_add_(0, batch.rows.to(labels.device), by_row_labels)
            if by_theta is not None:
                v = v + by_theta
        return v, by_images, by_labels, by_lr

    def _step_back(
        self,
        batch: Minibatch,
        theta: Tensor,
        u: Tensor,
        images: Tensor,
        labels: Tensor,
        kept: list[KeptGradient] | None,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Differentiates ``<u, g>`` by a minibatch's images, its labels and theta (``H u``)."""
        # By the chain rule, <u, g> is differentiated by the augmented images first, in chunks,
        # and then through the augmentation, once for the whole minibatch, which its draw covers.
        # Only the augmentation's graph, which is small compared with the network's, is therefore
        # alive for all images at the same time.
        with torch.enable_grad():
            leaf = images.detach().requires_grad_()
            augmented = batch.replay(leaf)
        # g is the mean gradient over the minibatch, whereas the student differentiates sums. As
        # <u, g> is linear in u, dividing u once gives the mean's derivatives, whatever the chunks.
        u = u / len(batch.rows)
        # <u, g> is a sum over images. Its derivative by theta, H u, is therefore a sum over
        # chunks; its derivatives by images and labels consist of one part per chunk. A process
        # computes only its own chunks and leaves zeros for the others', so that the sum over
        # processes is the whole of all three. All processes have to call the sums in the same
        # order, even a process without chunks.
        product = torch.zeros_like(u)
        by_augmented = torch.zeros_like(augmented)
        by_labels = torch.zeros_like(labels)
        chunks = self._chunks(augmented.detach(), labels)
        into = self._chunks(by_augmented, by_labels)  # views, whose filling fills the two tensors
        for (x, y), (by_x, by_y) in zip(chunks, into, strict=True):
            if kept:
                found = kept.pop(0).product(u, hessian=self.hessian)
            else:
                found = self.student.gradient_product(theta, x, y, u, hessian=self.hessian)
            part, label_part, by_theta = found
            by_x.copy_(part)
            if label_part is not None:
                by_y.copy_(label_part)
            if by_theta is not None:
                product += by_theta
        (by_images,) = torch.autograd.grad(augmented, leaf, self.share.reduce(by_augmented))
        if labels.is_floating_point():
            by_labels = self.share.reduce(by_labels)
        return by_images, by_labels, self.share.reduce(product) if self.hessian else None

    def _chunks(self, images: Tensor, labels: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Returns this process's chunks, as even as possible, so that few shapes occur."""
        if uses_batch_statistics(self.student.network):
            parts = [(images, labels)]
        else:
            size = self.chunk_size or default_chunk_size(images, _CHUNK_PIXELS)
            count = -(-len(images) // size)
            # The same number for every process, if there are enough images.
            count = min(-(-count // self.share.count) * self.share.count, len(images))
            pieces = (torch.tensor_split(t, count) for t in (images, labels))
            parts = list(zip(*pieces, strict=True))
        return parts[self.share.index :: self.share.count]

"""The inner loop of trajectory matching as a differentiable function, with swappable adjoints.

``theta_{n+1} = theta_n - lr * g_n`` with ``g_n = grad_theta L(A(B_n); theta_n)``, for n < N.

Adjoints, which differ in how the way back is computed:

``recompute`` (recommended)
    Exact. Walking back, each step is computed again, a chunk of its minibatch at a time, so that
    memory depends neither on N nor on the size of the minibatch.
``direct``
    Exact. Keeps the graph of all steps, as MTT does: memory grows with N times the minibatch.
``tesla``
    As ``recompute``, with every theta_n held constant, as TESLA does: no Hessian term.

The algebra of ``recompute``: let v be the cotangent of theta_{n+1} and w_n that of ||g_n||, and
``u = -lr * v + w_n * g_n / ||g_n||``. The derivatives of ``<u, g_n>`` with respect to images and
labels are the step's part of theirs, and the one with respect to theta_n, ``H_n u``, is added
to v. Likewise ``d lr -= <g_n, v>``. So the correction costs one vector addition a step.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO, Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sdc_ext.matching.minibatches import Minibatch
from sdc_ext.networks.chunks import default_chunk_size, uses_batch_statistics
from sdc_ext.networks.functional import FunctionalNetwork

Adjoint = Literal["recompute", "direct", "tesla"]


# 16 images of 32x32: fast on the CPUs measured, and small (benchmarks/tm_step.py).
_CHUNK_PIXELS = 16 * 32 * 32


@dataclass(frozen=True)
class Share:
    """Which part of each minibatch this process computes.

    Attributes:
        index: of this process.
        count: of processes.
        reduce: sums a tensor over them.
    """

    index: int = 0
    count: int = 1
    reduce: Callable[[Tensor], Tensor] = lambda tensor: tensor


def _unroll_directly(
    student: FunctionalNetwork,
    params: Tensor,
    images: Tensor,
    labels: Tensor,
    lr: Tensor,
    batches: Sequence[Minibatch],
) -> tuple[Tensor, Tensor]:
    theta = params if params.requires_grad else params.detach().requires_grad_()
    norms = []
    for batch in batches:
        augmented = batch.replay(images[batch.rows])
        loss = student.loss(theta, augmented, labels[batch.rows]) / len(batch.rows)
        (g,) = torch.autograd.grad(loss, theta, create_graph=True)
        norms.append(torch.linalg.vector_norm(g))
        theta = theta - lr * g
    return theta, torch.stack(norms)


class _Unroll(torch.autograd.Function):
    """Hands a sweep's derivatives to autograd."""

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
    """The way forward and back through all inner steps."""

    student: FunctionalNetwork
    batches: Sequence[Minibatch]
    hessian: bool
    chunk_size: int | None
    share: Share

    def forward(
        self, params: Tensor, images: Tensor, labels: Tensor, lr: Tensor
    ) -> tuple[Tensor, Tensor, _Trail]:
        trail = _Trail(params)
        theta, norms = params.detach(), []
        for batch in self.batches:
            chunks = self._chunks(batch.replay(images[batch.rows]), labels[batch.rows])
            total = self.student.summed_gradient(theta, chunks)
            g = self.share.reduce(total / len(batch.rows))
            trail.append(theta, g)
            norms.append(torch.linalg.vector_norm(g))
            theta = theta - lr * g
        return theta, torch.stack(norms), trail

    def backward(
        self,
        trail: _Trail,
        images: Tensor,
        labels: Tensor,
        lr: Tensor,
        v: Tensor | None,
        w: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
        """Cotangents of params, images, labels and lr from those of theta_N and the norms."""
        by_images, by_lr = torch.zeros_like(images), torch.zeros_like(lr)
        by_labels = torch.zeros_like(labels) if labels.is_floating_point() else None
        v = torch.zeros_like(trail.read(0)[0]) if v is None else v
        for n, batch in reversed(list(enumerate(self.batches))):
            theta, g = trail.read(n)
            by_lr -= torch.dot(g, v)
            u = -lr * v
            norm = torch.linalg.vector_norm(g)
            if w is not None and norm > 0:  # at zero the norm's derivative is taken as zero
                u += w[n] / norm * g
            by_theta = self._step_back(batch, theta, u, images, labels, by_images, by_labels)
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
        by_images: Tensor,
        by_labels: Tensor | None,
    ) -> Tensor | None:
        """Adds one step's part to the cotangents of images and labels; returns ``H u``."""
        with torch.enable_grad():
            leaf = images[batch.rows].detach().requires_grad_()
            augmented = batch.replay(leaf)
        u = u / len(batch.rows)
        product = torch.zeros_like(u)
        by_augmented = torch.zeros_like(augmented)
        batch_labels = labels[batch.rows]
        by_batch_labels = torch.zeros_like(batch_labels)
        chunks = self._chunks(augmented.detach(), batch_labels)
        into = self._chunks(by_augmented, by_batch_labels)
        for (x, y), (by_x, by_y) in zip(chunks, into, strict=True):
            part, label_part, by_theta = self.student.gradient_product(
                theta, x, y, u, hessian=self.hessian
            )
            by_x.copy_(part)
            if label_part is not None:
                by_y.copy_(label_part)
            if by_theta is not None:
                product += by_theta
        (by_leaf,) = torch.autograd.grad(augmented, leaf, self.share.reduce(by_augmented))
        by_images.index_add_(0, batch.rows.to(images.device), by_leaf)
        if by_labels is not None:
            by_batch_labels = self.share.reduce(by_batch_labels)
            by_labels.index_add_(0, batch.rows.to(labels.device), by_batch_labels)
        return self.share.reduce(product) if self.hessian else None

    def _chunks(self, images: Tensor, labels: Tensor) -> list[tuple[Tensor, Tensor]]:
        """This process's chunks, as even as they can be, so that few shapes occur."""
        if uses_batch_statistics(self.student.network):
            parts = [(images, labels)]
        else:
            size = self.chunk_size or default_chunk_size(images, _CHUNK_PIXELS)
            count = -(-len(images) // size)
            # As many for every process, if there are enough images.
            count = min(-(-count // self.share.count) * self.share.count, len(images))
            pieces = (torch.tensor_split(t, count) for t in (images, labels))
            parts = list(zip(*pieces, strict=True))
        return parts[self.share.index :: self.share.count]


class _Trail:
    """theta_n and g_n of all steps.

    On CPUs they lie in a temporary file, which takes no measurable time and keeps memory flat in
    N; elsewhere in the device's memory, since copying would hold the device up.
    """

    def __init__(self, like: Tensor) -> None:
        self._kept: list[tuple[Tensor, Tensor]] = []
        self._file: IO[bytes] | None = None
        self._count = like.numel()
        self._dtype = torch.empty(0, dtype=like.dtype).numpy().dtype
        if like.device.type == "cpu":
            self._file = tempfile.TemporaryFile(buffering=0, prefix="sdc-ext-")  # noqa: SIM115

    def append(self, theta: Tensor, g: Tensor) -> None:
        if self._file is None:
            self._kept.append((theta, g))
        else:
            for tensor in (theta, g):
                tensor.numpy().tofile(self._file)

    def read(self, n: int) -> tuple[Tensor, Tensor]:
        if self._file is None:
            return self._kept[n]
        row = 2 * self._count
        self._file.seek(n * row * self._dtype.itemsize)
        both = torch.from_numpy(np.fromfile(self._file, self._dtype, row))
        return both[: self._count], both[self._count :]

    def __del__(self) -> None:
        if self._file is not None:
            self._file.close()

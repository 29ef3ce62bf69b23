"""The inner loop of trajectory matching as a differentiable function."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from torch import Tensor

from sdc_ext.errors import InputError, check_choice
from sdc_ext.matching.adjoints import Adjoint, Share, _Sweep, _Unroll, _unroll_directly
from sdc_ext.matching.minibatches import Minibatch
from sdc_ext.networks.functional import FunctionalNetwork


def unroll(
    student: FunctionalNetwork,
    params: Tensor,
    images: Tensor,
    labels: Tensor,
    lr: Tensor,
    batches: Sequence[Minibatch],
    *,
    adjoint: Adjoint = "recompute",
    chunk_size: int | None = None,
    share: Share | None = None,
) -> tuple[Tensor, Tensor]:
    """Trains a student on synthetic images for N steps, differentiably.

    Args:
        student: the network.
        params: its parameters theta_0 (P,).
        images: the synthetic set (n, C, H, W), normalised.
        labels: (n,) int64, or (n, classes) probabilities.
        lr: step size, a scalar tensor.
        batches: one an inner step.
        adjoint: see the module; it changes gradients only where it is ``"tesla"``.
        chunk_size: images at once; by default 16 of 32x32 pixels on CPUs and all elsewhere.
            Networks that use batch statistics, and ``direct``, see the whole minibatch.
        share: this process's part of the work; alone, and with ``direct``, all of it.

    Returns:
        theta_N (P,) and the gradient norms (N,), ``||g_n||_2``. Both are differentiable once
        (``direct``: any number of times) with respect to params, images, labels and lr.

    Raises:
        InputError: for an unknown adjoint, a chunk size below 1, or a network with dropout,
            which no step could be computed again with.

    Reference: Cazenavette et al., "Dataset Distillation by Matching Training Trajectories",
    Algorithm 1; Cui et al., "Scaling Up Dataset Distillation to ImageNet-1K with Constant
    Memory", Section 3; the SDC paper, Eq. 5 and 12.
    """
    check_choice("adjoint", adjoint, get_args(Adjoint))
    if chunk_size is not None and chunk_size < 1:
        raise InputError(f"chunk_size must be at least 1, got {chunk_size}")
    if adjoint == "direct":
        return _unroll_directly(student, params, images, labels, lr, batches)
    if student.is_random:
        raise InputError(
            f"adjoint {adjoint!r} computes each step again, which dropout makes another step: "
            "switch dropout off in the network, or use adjoint 'direct'"
        )
    sweep = _Sweep(student, batches, adjoint == "recompute", chunk_size, share or Share())
    final, norms = _Unroll.apply(sweep, params, images, labels, lr)
    return final, norms

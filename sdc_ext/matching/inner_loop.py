"""Unrolls the inner loop of trajectory matching as a differentiable function."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sdc_ext.errors import InputError
from sdc_ext.matching.adjoints import Adjoint, InnerLoop, Recompute
from sdc_ext.matching.minibatches import Minibatch
from sdc_ext.networks.functional import FunctionalNetwork

_RECOMPUTE = Recompute()


def unroll(
    student: FunctionalNetwork,
    params: Tensor,
    images: Tensor,
    labels: Tensor,
    lr: Tensor,
    batches: Sequence[Minibatch],
    *,
    adjoint: Adjoint = _RECOMPUTE,
) -> tuple[Tensor, Tensor]:
    """Trains a student on synthetic images for N steps, differentiably.

    Args:
        student: The network.
        params: Its initial parameters theta_0 (P,).
        images: Synthetic images (n, C, H, W), normalised.
        labels: Labels (n,) int64, or (n, classes) probabilities.
        lr: The step size, a scalar tensor.
        batches: One minibatch for each inner step.
        adjoint: The way to differentiate the loop: [`Recompute`][sdc_ext.matching.Recompute],
            [`Direct`][sdc_ext.matching.Direct] or [`Tesla`][sdc_ext.matching.Tesla]. The first
            two give the same gradients; ``Tesla`` approximates them.

    Returns:
        The final parameters theta_N (P,) and the gradient norms ``||g_n||_2`` (N,). Both can be
        differentiated once (with ``Direct``, any number of times) with respect to params,
        images, labels and lr.

    Raises:
        InputError: If ``adjoint`` is not an adjoint, or the network uses dropout or a buffer that
            each call changes, whose steps ``Recompute`` and ``Tesla`` cannot recompute.

    Reference: Cazenavette et al., "Dataset Distillation by Matching Training Trajectories",
    Algorithm 1; Cui et al., "Scaling Up Dataset Distillation to ImageNet-1K with Constant
    Memory", Section 3; the SDC paper, Eq. 5 and 12.
    """
    if not isinstance(adjoint, Adjoint):
        raise InputError(
            "adjoint must be Recompute(), Direct() or Tesla() from sdc_ext.matching, got "
            f"{adjoint!r}"
        )
    return adjoint.unroll(InnerLoop(student, params, images, labels, lr, batches))

"""Sample Difficulty Correction: a matching loss plus ``lam * ||grad_theta L(B_syn)||_2``.

Reference: "Not All Samples Should Be Utilized Equally", Eq. 11 (gradient matching) and
Eq. 12 (trajectory matching). The gradient is the one that the matching loop has already
computed, so the correction costs one norm. This file and what it imports need only torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor

from sdc_ext._families import Family
from sdc_ext._graphs import Node
from sdc_ext.errors import check_choice
from sdc_ext.strength import check_lam

Gradients: TypeAlias = Tensor | Sequence[Tensor | None] | Mapping[str, Tensor | None]

Norm: TypeAlias = Literal["l2", "l2_squared"]

Reduction: TypeAlias = Literal["mean", "sum"]


def gradient_norm(gradients: Gradients) -> Tensor:
    """Returns one L2 norm over all parameters: the batch's GraDN (Definition 2).

    Args:
        gradients: A tensor, or a list, tuple or dict of tensors of any shape; None entries
            (unused parameters) count as zero.

    Returns:
        A scalar tensor, in float32 or wider. At zero its derivative is zero, not NaN.

    Raises:
        TypeError: If an entry is neither a tensor nor None.
        ValueError: If there is no tensor among them.
    """
    tensors = tensors_of(gradients)
    if not tensors:
        raise ValueError(
            Family.BY_CLASS.advise("no gradients to penalise, because the collection is empty")
        )
    norms = [torch.linalg.vector_norm(g, dtype=_wide(g.dtype)) for g in tensors]
    total: Tensor = torch.linalg.vector_norm(torch.stack(norms))
    return total


def sdc_penalty(
    norms: Tensor | Sequence[Tensor],
    lam: float,
    *,
    norm: Norm = "l2",
    reduction: Reduction = "mean",
    of: int | None = None,
) -> Tensor:
    """Returns the term that SDC adds to a matching loss, computed from gradient norms.

    ``lam * mean_n ||g_n||_2``; ``reduction`` and ``norm`` select a sum or squared norms. Prefer
    [`with_sdc`][sdc_ext.with_sdc] or [`inject`][sdc_ext.inject], which add this term; call the
    function itself in loops that fit neither.

    Args:
        norms: The L2 norms of the gradients on the synthetic batch, as (N,) or as N scalars.
        lam: The weight, at least 0.
        norm: ``"l2"`` as in Eq. 11 and 12, or ``"l2_squared"`` as in Algorithms 1 and 2.
        reduction: ``"mean"`` as in Eq. 12, or ``"sum"``.
        of: The number of norms that the mean is over, where ``norms`` holds only some of them
            because the loop adds the term step by step. By default the mean is over ``norms``;
            a sum does not depend on it.

    Returns:
        A scalar tensor, differentiable with respect to the norms.

    Raises:
        TypeError: If ``lam`` is not a number.
        ValueError: If ``lam`` is negative or not finite, ``norm`` or ``reduction`` is unknown,
            there are no norms, or ``of`` is less than their number.

    Reference: the SDC paper, Eq. 11 and 12.

    Examples:
        >>> sdc_penalty(torch.tensor([3.0, 5.0]), lam=0.5)
        tensor(2.)
    """
    check_choice("norm", norm, get_args(Norm))
    check_choice("reduction", reduction, get_args(Reduction))
    weight = check_lam(lam)
    together = stacked(norms)
    count = together.numel()
    if of is not None and of < count:
        raise ValueError(f"of must be at least the number of norms, {count}, got {of}")
    total = (together if norm == "l2" else together.square()).sum()
    return weight * (total if reduction == "sum" else total / (of or count))


def stacked(norms: Iterable[Tensor]) -> Tensor:
    """Returns norms as one tensor (N,); raises ValueError if there are none."""
    scalars = list_of_norms(norms)
    if not scalars:
        raise ValueError(
            Family.UNROLLED.advise(
                "no norms to penalise", "pass the norm of the gradient of at least one step"
            )
        )
    return torch.stack(scalars)


def list_of_norms(norms: Iterable[Tensor]) -> list[Tensor]:
    """Returns norms as a list; raises TypeError if they are no scalar tensors in a collection."""
    several = isinstance(norms, Iterable) and not (isinstance(norms, Tensor) and norms.ndim == 0)
    scalars: list[Any] = list(norms) if several else [None]
    if not all(isinstance(norm, Tensor) for norm in scalars):
        raise TypeError(
            Family.UNROLLED.advise(
                "norms must be a list of scalar tensors with their graphs",
                "pass one such norm for each step, or show the gradients themselves to .observe()",
            )
        )
    return scalars


def shapes_of(gradients: Gradients) -> set[torch.Size]:
    """Returns the shapes of gradients, which are those of the parameters."""
    return {gradient.shape for gradient in tensors_of(gradients)}


def nodes_that_made(gradients: Gradients) -> set[Node]:
    """Returns the nodes of the graph that made gradients; none if they have no graph."""
    return {node for gradient in tensors_of(gradients) if (node := gradient.grad_fn) is not None}


def tensors_of(gradients: Gradients) -> list[Tensor]:
    """Returns the tensors among gradients; raises TypeError if something else is among them."""
    if isinstance(gradients, Tensor):
        return [gradients]
    values = gradients.values() if isinstance(gradients, Mapping) else gradients
    if not isinstance(values, Iterable):
        raise TypeError(_of_other_kind(values))
    tensors = [g for g in values if g is not None]
    for g in tensors:
        if not isinstance(g, Tensor):
            raise TypeError(_of_other_kind(g, " among them"))
    return tensors


def _of_other_kind(value: object, where: str = "") -> str:
    """Returns why a value in the place of gradients is refused, and what to pass."""
    nested = isinstance(value, Sequence | Mapping) and not isinstance(value, str)
    family = Family.ALL_CLASSES if nested else Family.BY_CLASS
    return family.advise(f"gradients must be tensors, got a {type(value).__name__}{where}")


def _wide(dtype: torch.dtype) -> torch.dtype:
    """Returns float32 for half precision, which overflows when squared and summed."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype

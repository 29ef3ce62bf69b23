"""Sample Difficulty Correction: a matching loss plus ``lam * ||grad_theta L(B_syn)||_2``.

Reference: "Not All Samples Should Be Utilized Equally", Eq. 11 (gradient matching) and
Eq. 12 (trajectory matching). The gradient is the one that the matching loop has already
computed, so the correction costs one norm. This file and what it imports need only torch.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor

from sdc_ext._calls import Misuse, find_gradients

Gradients: TypeAlias = Tensor | Sequence[Tensor | None] | Mapping[str, Tensor | None]

Schedule: TypeAlias = Callable[[int], float]

Norm: TypeAlias = Literal["l2", "l2_squared"]

Reduction: TypeAlias = Literal["mean", "sum"]


@dataclass(frozen=True)
class LogRamp:
    """Adaptive SDC: lam grows geometrically from ``start`` to ``end``, then stays there.

    ``lam(t) = start * (end / start) ** min(t / steps, 1)``

    Args:
        start: The value of lam at iteration 0, above 0.
        end: The value of lam from iteration ``steps`` on, above 0.
        steps: The length of the ramp in outer iterations, at least 1.

    Raises:
        ValueError: If a bound is not finite and above 0, or ``steps`` is below 1.

    Reference: the SDC paper, Section 4.3 ("logarithmically increased"), e.g. from 0.02 to 0.08
    over 10,000 iterations for DATM.

    Examples:
        >>> [round(LogRamp(0.02, 0.08, steps=10)(t), 3) for t in (0, 5, 10, 99)]
        [0.02, 0.04, 0.08, 0.08]
    """

    start: float
    end: float
    steps: int

    def __post_init__(self) -> None:
        for name in ("start", "end"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(
                    f"LogRamp {name} must be finite and above 0, got {value}: a geometric ramp "
                    "cannot reach 0, so use a small value such as 1e-4"
                )
        if self.steps < 1:
            raise ValueError(f"LogRamp steps must be at least 1, got {self.steps}")

    def __call__(self, iteration: int) -> float:
        """Returns lam at an outer iteration, counted from 0."""
        progress = min(iteration / self.steps, 1.0)
        return float(self.start * (self.end / self.start) ** progress)


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
    tensors = _tensors(gradients)
    if not tensors:
        raise ValueError(
            "no gradients to penalise: got an empty collection; pass the gradients of the loss on "
            "the synthetic batch, as torch.autograd.grad(..., create_graph=True) returns them"
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
    _check_one_of("norm", norm, Norm)
    _check_one_of("reduction", reduction, Reduction)
    weight = check_lam(lam)
    stacked = _stack(norms)
    count = stacked.numel()
    if of is not None and of < count:
        raise ValueError(f"of must be at least the number of norms, {count}, got {of}")
    total = (stacked if norm == "l2" else stacked.square()).sum()
    return weight * (total if reduction == "sum" else total / (of or count))


@dataclass(frozen=True)
class Corrected:
    """A corrected matching loss and its parts, each a scalar tensor.

    Attributes:
        loss: The corrected loss, with its graph.
        matching: The matching loss without the correction (detached).
        difficulty: GraDN, i.e. the mean L2 norm, whatever ``norm`` is (detached).
    """

    loss: Tensor
    matching: Tensor
    difficulty: Tensor


class SDCLoss:
    """A matching loss with the correction, as [`with_sdc`][sdc_ext.with_sdc] returns it.

    Attributes:
        matching: The last matching loss, without the correction (detached; NaN before a call).
        difficulty: The last GraDN, i.e. the mean L2 norm (detached; NaN before a call).
        lam: The last lam.
    """

    def __init__(
        self,
        loss_fn: Callable[..., Tensor],
        lam: float | Schedule,
        grads: int | str | None,
        norm: Norm,
    ) -> None:
        functools.update_wrapper(self, loss_fn, updated=())
        self._iteration = 0
        self._counts_calls = True
        self.matching = torch.tensor(math.nan)
        self.difficulty = torch.tensor(math.nan)
        self._loss_fn = loss_fn
        self._schedule = lam if callable(lam) else None
        self._grads = grads
        self._norm = norm
        self._observed: list[Tensor] = []
        self._observed_at = 0
        self._misuse = Misuse()
        self.lam = check_lam(lam(0) if callable(lam) else lam)

    @property
    def needs_graph(self) -> bool:
        """Whether the correction differentiates the gradients, i.e. whether lam is above 0.

        If it is False, a loop may pass gradients without a graph; they are only recorded. The
        answer holds for all iterations: a schedule always counts as above 0.
        """
        return self._schedule is not None or self.lam > 0

    @property
    def iteration(self) -> int:
        """The iteration that a schedule has reached: the number of corrected calls, until set.

        Set it in loops that call the loss more than once per outer iteration (DC, DSA):
        ``match_loss.iteration = it``.
        """
        return self._iteration

    @iteration.setter
    def iteration(self, value: int) -> None:
        self._iteration = value
        self._counts_calls = False

    def observe(self, gradients: Gradients) -> None:
        """Records the gradient of one inner step; the next call penalises the mean of all.

        Loops that compute their gradients one at a time (MTT, FTD, DATM) call it after
        ``torch.autograd.grad(..., create_graph=True)``. Where a loop sets ``iteration``, what was
        observed in an iteration that never came to its loss is left out, with a warning.
        """
        self._note([gradient_norm(gradients)])

    def observe_norms(self, norms: Iterable[Tensor]) -> None:
        """As ``observe``, for a loop that already has the norms (scalars with their graphs)."""
        self._note(norms)

    def _note(self, norms: Iterable[Tensor]) -> None:
        if self._grads is not None:
            raise ValueError(
                f"with_sdc(grads={self._grads!r}) takes the gradients from that argument: drop "
                "grads= to use .observe()"
            )
        if self._observed and self._observed_at != self._iteration:
            self._misuse.warn_of_unused(len(self._observed), self._observed_at)
            self._observed = []
        self._observed_at = self._iteration
        self._observed.extend(norms)

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        """Returns the corrected loss, a scalar tensor; the arguments are the wrapped loss's."""
        norms, self._observed = self._observed, []
        observed = bool(norms)
        if not observed:
            gradients = find_gradients(self._loss_fn, self._grads, args, kwargs)
            norms = [gradient_norm(gradients)]
            if self._grads is None and norms[0].requires_grad:
                self._misuse.check_no_parameters(gradients)
        found = self.corrected(norms, *args, **kwargs)
        self.matching, self.difficulty = found.matching, found.difficulty
        if self.lam > 0 and found.loss.requires_grad and not any(n.requires_grad for n in norms):
            self._misuse.warn_of_no_graph(observed, args, kwargs)
        return found.loss

    def corrected(self, norms: Iterable[Tensor], /, *args: Any, **kwargs: Any) -> Corrected:
        """As a call, for a loop that has the norms and wants all results as values.

        Observed gradients, ``matching`` and ``difficulty`` are neither used nor changed; a
        schedule advances as with a call.

        Args:
            norms: The gradient norms to penalise, scalars with their graphs.
            *args: The positional arguments of the wrapped loss.
            **kwargs: The keyword arguments of the wrapped loss.

        Raises:
            TypeError: If the wrapped loss does not return a tensor.
            ValueError: If the tensor is not a scalar, or there are no norms.
        """
        loss = self._loss_fn(*args, **kwargs)
        if not isinstance(loss, Tensor):
            raise TypeError(
                f"the wrapped loss returned a {type(loss).__name__}, but with_sdc corrects scalar "
                "tensors: wrap the function that computes the matching loss itself"
            )
        if loss.numel() != 1:
            raise ValueError(
                f"the wrapped loss returned the shape {tuple(loss.shape)}, but with_sdc corrects "
                "scalar tensors: sum it or take its mean in the function that you wrap"
            )
        if self._schedule is not None:
            self.lam = check_lam(self._schedule(self._iteration))
        stacked = _stack(norms)
        matching, difficulty = loss.detach(), stacked.detach().mean()
        if stacked.requires_grad:
            self._iteration += self._counts_calls
            if self.lam > 0:  # at 0 add nothing: 0 times a NaN norm would spoil the loss
                loss = loss + sdc_penalty(stacked, self.lam, norm=self._norm)
        return Corrected(loss, matching, difficulty)


def with_sdc(
    loss_fn: Callable[..., Tensor],
    lam: float | Schedule = 0.002,
    *,
    grads: int | str | None = None,
    norm: Norm = "l2",
) -> SDCLoss:
    """Wraps a matching loss so that it also penalises the difficulty of the synthetic batch.

    ``L_lam = loss_fn(...) + lam * ||grad_theta L(B_syn; theta)||_2``

    Gradients without a graph (in calls for logging) add nothing, and with ``lam = 0`` the result
    is what ``loss_fn`` returns. No graph outlives the call. Calls that are valid but cannot be
    meant, such as real and synthetic gradients in the wrong order, are reported by a
    ``UserWarning``, once each.

    Args:
        loss_fn: Any callable that returns a scalar tensor.
        lam: The weight, at least 0 (the paper's default is 0.002), or a schedule that maps the
            iteration to the weight, such as [`LogRamp`][sdc_ext.LogRamp].
        grads: The argument of ``loss_fn`` that holds the synthetic gradients, by position or
            name. By default observed gradients are used if there are any, and otherwise the
            first argument, which must then be a list, tuple or dict of tensors.
        norm: ``"l2"`` as in Eq. 11 and 12, or ``"l2_squared"`` as in Algorithms 1 and 2.

    Raises:
        TypeError: If ``loss_fn`` is not callable, or ``lam`` is not a number.
        ValueError: If ``lam`` is negative or not finite, or ``norm`` is unknown.

    Reference: the SDC paper, Eq. 11 and 12.

    Examples:
        >>> def match_loss(gw_syn, gw_real):
        ...     return sum(((s - r) ** 2).sum() for s, r in zip(gw_syn, gw_real))
        >>> weight, image = torch.ones(2, requires_grad=True), torch.tensor([3.0, 4.0])
        >>> loss = (weight * image.requires_grad_()).sum()
        >>> gw_syn = torch.autograd.grad(loss, [weight], create_graph=True)
        >>> match_loss = with_sdc(match_loss, lam=0.1)
        >>> match_loss(gw_syn, [torch.zeros(2)]).item()
        25.5
    """
    if not callable(loss_fn):
        raise TypeError(
            f"loss_fn must be callable, got {type(loss_fn).__name__}: pass the matching loss "
            "itself, not its value"
        )
    _check_one_of("norm", norm, Norm)
    return SDCLoss(loss_fn, lam, grads, norm)


def check_lam(lam: object) -> float:
    """Returns lam as a float; raises if it is not a number, negative or not finite."""
    if isinstance(lam, bool) or not isinstance(lam, Real):
        raise TypeError(f"lam must be a number or a schedule, got {type(lam).__name__}")
    value = float(lam)
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(
            f"lam must be finite and at least 0, got {lam}: the paper's default is 0.002, "
            "and 0 switches the correction off"
        )
    return value


def _check_one_of(what: str, value: object, choices: object) -> None:
    known = get_args(choices)
    if value not in known:
        raise ValueError(f"{what} must be {' or '.join(map(repr, known))}, got {value!r}")


def _stack(norms: Iterable[Tensor]) -> Tensor:
    scalars = list(norms)
    if not scalars:
        raise ValueError("no norms to penalise: pass the norm of at least one gradient")
    return torch.stack(scalars)


def _tensors(gradients: Gradients) -> list[Tensor]:
    if isinstance(gradients, Tensor):
        return [gradients]
    values = gradients.values() if isinstance(gradients, Mapping) else gradients
    tensors = [g for g in values if g is not None]
    for g in tensors:
        if not isinstance(g, Tensor):
            raise TypeError(f"gradients must be tensors, got a {type(g).__name__} among them")
    return tensors


def _wide(dtype: torch.dtype) -> torch.dtype:
    """Returns float32 for half precision, which overflows when squared and summed."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype

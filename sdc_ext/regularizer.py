"""Sample Difficulty Correction: a matching loss plus ``lam * ||grad_theta L(B_syn)||_2``.

Reference: "Not All Samples Should Be Utilized Equally", Eq. 11 (gradient matching) and
Eq. 12 (trajectory matching). The gradient is the one that the matching loop has already
computed, so the correction costs a norm and nothing more. This file imports torch only.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor

Gradients: TypeAlias = Tensor | Sequence[Tensor | None] | Mapping[str, Tensor | None]

Schedule: TypeAlias = Callable[[int], float]

Norm: TypeAlias = Literal["l2", "l2_squared"]

Reduction: TypeAlias = Literal["mean", "sum"]


_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclass(frozen=True)
class LogRamp:
    """Adaptive SDC: lam grows geometrically from ``start`` to ``end``, then stays.

    ``lam(t) = start * (end / start) ** min(t / steps, 1)``

    Args:
        start: lam at iteration 0, above 0.
        end: lam from iteration ``steps`` on, above 0.
        steps: length of the ramp in outer iterations.

    Raises:
        ValueError: if a bound is not above 0 and finite, or ``steps`` is below 1.

    Reference: the SDC paper, Section 4.3 ("logarithmically increased"), e.g. 0.02 to 0.08
    over 10,000 iterations for DATM.

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
                    "cannot touch 0; use a small value such as 1e-4"
                )
        if self.steps < 1:
            raise ValueError(f"LogRamp steps must be at least 1, got {self.steps}")

    def __call__(self, iteration: int) -> float:
        progress = min(iteration / self.steps, 1.0)
        return float(self.start * (self.end / self.start) ** progress)


def gradient_norm(gradients: Gradients) -> Tensor:
    """One global L2 norm over all parameters: the GraDN score of the batch (Definition 2).

    Args:
        gradients: a tensor, or a list, tuple or dict of tensors of any shapes; None entries
            (unused parameters) count as zero.

    Returns:
        A scalar tensor, in float32 or wider. At zero its derivative is zero, not NaN.

    Raises:
        ValueError: if there is no tensor in it.
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
    """The term that SDC adds to a matching loss, computed from gradient norms.

    ``lam * mean_n ||g_n||_2``, with a sum or with squared norms on request. ``with_sdc`` and
    [`inject`][sdc_ext.inject] add this term where a loop has one loss to wrap or can be left as it
    is; call the function itself in loops that fit neither.

    Args:
        norms: The L2 norms of the gradients on the synthetic batch, as (N,) or as N scalars.
        lam: The weight, at least 0.
        norm: ``"l2"`` as in Eq. 11 and 12, or ``"l2_squared"`` as in Algorithms 1 and 2.
        reduction: ``"mean"`` as in Eq. 12, or ``"sum"``.
        of: The number of norms in the mean, where ``norms`` is only a part of them because the
            loop adds the term step by step. By default the mean is over ``norms``. A sum does
            not depend on it.

    Returns:
        A scalar tensor, differentiable with respect to the norms.

    Raises:
        TypeError: If ``lam`` is not a number.
        ValueError: If ``lam`` is negative or not finite, ``norm`` or ``reduction`` is unknown,
            there are no norms, or ``of`` is less than their number.

    Reference: the SDC paper, Eq. 11 and 12.

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
    """A corrected matching loss and what it is made of.

    Attributes:
        loss: The corrected loss, a scalar in graph.
        matching: The matching loss without the correction, a scalar (detached).
        difficulty: GraDN, i.e. the mean L2 norm, whatever ``norm`` is; a scalar (detached).
    """

    loss: Tensor
    matching: Tensor
    difficulty: Tensor


class SDCLoss:
    """What ``with_sdc`` returns: ``loss_fn`` with its own signature, plus the correction.

    Attributes:
        matching: the last matching loss, without the correction (detached; NaN at first).
        difficulty: the last GraDN, i.e. the mean L2 norm (likewise), whatever ``norm`` is.
        lam: the last lam.
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
        self.lam = check_lam(lam(0) if callable(lam) else lam)

    @property
    def needs_graph(self) -> bool:
        """Whether the loss may be asked to differentiate the gradients, as lam above 0 does.

        Where it is False, a loop may hand over gradients without a graph, which are recorded
        only. The answer holds for all iterations: a schedule counts as above 0 throughout.
        """
        return self._schedule is not None or self.lam > 0

    @property
    def iteration(self) -> int:
        """Where a schedule stands. It counts the corrected calls until you set it.

        Set it in loops that call the loss more than once an outer iteration (DC, DSA):
        ``match_loss.iteration = it``.
        """
        return self._iteration

    @iteration.setter
    def iteration(self, value: int) -> None:
        self._iteration = value
        self._counts_calls = False

    def observe(self, gradients: Gradients) -> None:
        """Notes the gradient of one inner step; the next call penalises the mean of all noted.

        For loops that meet their gradients one at a time (MTT, FTD, DATM): call it after
        ``torch.autograd.grad(..., create_graph=True)``.
        """
        self.observe_norms([gradient_norm(gradients)])

    def observe_norms(self, norms: Iterable[Tensor]) -> None:
        """As ``observe``, for a loop that has the norms already (scalars, in graph)."""
        if self._grads is not None:
            raise ValueError(
                f"with_sdc(grads={self._grads!r}) takes the gradients from that argument: drop "
                "grads= to use .observe()"
            )
        self._observed.extend(norms)

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        norms, self._observed = self._observed, []
        if not norms:
            norms = [gradient_norm(self._find_gradients(args, kwargs))]
        found = self.corrected(norms, *args, **kwargs)
        self.matching, self.difficulty = found.matching, found.difficulty
        return found.loss

    def corrected(self, norms: Iterable[Tensor], /, *args: Any, **kwargs: Any) -> Corrected:
        """The same as a call, for a loop that has the norms and wants all results as values.

        Observed gradients, ``matching`` and ``difficulty`` are neither used nor changed; a
        schedule goes on as with a call.

        Args:
            norms: The gradient norms to penalise, scalars in graph.
            *args: The arguments of the wrapped loss.
            **kwargs: Its keyword arguments.

        Raises:
            TypeError: If the wrapped loss does not return a tensor.
            ValueError: If there are no norms.
        """
        loss = self._loss_fn(*args, **kwargs)
        if not isinstance(loss, Tensor):
            raise TypeError(
                f"the wrapped loss returned a {type(loss).__name__}: with_sdc corrects scalar "
                "tensors; wrap the function that computes the matching loss itself"
            )
        if self._schedule is not None:
            self.lam = check_lam(self._schedule(self._iteration))
        stacked = _stack(norms)
        matching, difficulty = loss.detach(), stacked.detach().mean()
        if stacked.requires_grad:
            self._iteration += self._counts_calls
            if self.lam > 0:  # not even an added zero, which a NaN among the norms would spoil
                loss = loss + sdc_penalty(stacked, self.lam, norm=self._norm)
        return Corrected(loss, matching, difficulty)

    def _find_gradients(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Gradients:
        which = 0 if self._grads is None else self._grads
        found = _argument(self._loss_fn, which, args, kwargs)
        if self._grads is None and isinstance(found, Tensor):
            raise ValueError(
                "with_sdc cannot tell whether a single tensor in first place is a gradient: "
                "call .observe(gradients) before the loss, or pass grads=0 if it is one"
            )
        if not isinstance(found, (Tensor, Sequence, Mapping)) or isinstance(found, str):
            raise TypeError(
                f"with_sdc found no gradients: the argument is a {type(found).__name__}; pass a "
                "tensor, list, tuple or dict of gradients, name the argument that holds them "
                "with grads=, or call .observe(gradients)"
            )
        return found


def with_sdc(
    loss_fn: Callable[..., Tensor],
    lam: float | Schedule = 0.002,
    *,
    grads: int | str | None = None,
    norm: Norm = "l2",
) -> SDCLoss:
    """Wraps a matching loss so that it also penalises the difficulty of the synthetic batch.

    ``L_lam = loss_fn(...) + lam * ||grad_theta L(B_syn; theta)||_2``

    Gradients that carry no graph (calls for logging) add nothing, and ``lam = 0`` returns what
    ``loss_fn`` returns. No graph outlives the call.

    Args:
        loss_fn: any callable that returns a scalar tensor.
        lam: the weight, at least 0 (the paper's default is 0.002), or a schedule from the
            iteration number to it, such as [`LogRamp`][sdc_ext.LogRamp].
        grads: the argument of ``loss_fn`` that holds the synthetic gradients, by position or
            name. Left out: what was observed, else the first argument if it is a list, tuple or
            dict of tensors.
        norm: ``"l2"`` as in Eq. 11 and 12, or ``"l2_squared"`` as in Algorithms 1 and 2.

    Raises:
        TypeError: if ``loss_fn`` is not callable.
        ValueError: if ``lam`` is negative or not finite, or ``norm`` is unknown.

    Reference: the SDC paper, Eq. 11 and 12.

    >>> def match_loss(gw_syn, gw_real):
    ...     return sum(((s - r) ** 2).sum() for s, r in zip(gw_syn, gw_real))
    >>> gw_syn = [torch.tensor([3.0, 4.0], requires_grad=True)]
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
    """Returns lam as a float; raises if it is no number, negative or not finite."""
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
        raise ValueError("no norms to penalise: got none; pass the norm of at least one gradient")
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
    """Half precision overflows when squared and summed; float32 does not."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def _argument(
    function: Callable[..., Any], which: int | str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """The argument of a call at a position of the signature, or of that name."""
    if isinstance(which, int) and 0 <= which < len(args):
        return args[which]
    if isinstance(which, str) and which in kwargs:
        return kwargs[which]
    name, given = which, {}
    try:
        signature = inspect.signature(function)
        given = signature.bind(*args, **kwargs).arguments
    except (TypeError, ValueError):  # a builtin without a signature, or a call that will fail
        pass
    else:
        named = [n for n, p in signature.parameters.items() if p.kind not in _VARIADIC]
        given = {n: value for n, value in given.items() if n in named}
        if isinstance(which, int):
            name = dict(enumerate(named)).get(which, which)
    if name in given:
        return given[name]
    raise ValueError(
        f"with_sdc finds no argument {which!r} in this call: it has {len(args)} positional "
        f"arguments and {sorted(kwargs) or 'no'} keywords; name the gradients with grads="
    )

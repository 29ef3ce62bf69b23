"""Wraps a matching loss so that it also penalises the difficulty of the synthetic batch.

Reference: "Not All Samples Should Be Utilized Equally", Eq. 11 and 12. This file and what it
imports need only torch.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor

from sdc_ext._calls import (
    Misuse,
    check_images,
    check_scalar,
    find_gradients,
    no_second_pass,
    used_by,
)
from sdc_ext._families import Family
from sdc_ext._graphs import Node
from sdc_ext.errors import check_choice
from sdc_ext.regularizer import (
    Gradients,
    Norm,
    gradient_norm,
    list_of_norms,
    nodes_that_made,
    sdc_penalty,
    shapes_of,
    stacked,
    tensors_of,
)
from sdc_ext.strength import Pull, Schedule, Strength, find_images, reweighted


@dataclass(frozen=True)
class Corrected:
    """A corrected matching loss and its parts, each a scalar tensor.

    Attributes:
        loss: The corrected loss, with its graph.
        matching: The matching loss without the correction (detached).
        difficulty: GraDN, i.e. the mean L2 norm, whatever ``norm`` is (detached).
        term: The term at lam 1, with its graph; None if the gradients have no graph.
    """

    loss: Tensor
    matching: Tensor
    difficulty: Tensor
    term: Tensor | None = None


@dataclass(frozen=True)
class ImageGradients:
    """The gradients of a corrected loss by what is learnt, detached.

    Attributes:
        loss: The gradients of the corrected loss, one for each tensor; images come first.
        term: Those of the term at lam 1; None if the share is not measured in this update.
    """

    loss: list[Tensor]
    term: list[Tensor] | None = None

    def __iter__(self) -> Iterator[list[Tensor]]:
        return iter([self.loss] if self.term is None else [self.loss, self.term])

    def each(self, function: Callable[[Tensor], Tensor]) -> ImageGradients:
        """Returns the gradients with a function applied to each of them."""
        return ImageGradients(*([function(g) for g in part] for part in self))


class SDCLoss:
    """A matching loss with the correction, as [`with_sdc`][sdc_ext.with_sdc] returns it.

    Attributes:
        matching: The last matching loss, without the correction (detached; NaN before a call).
        difficulty: The last GraDN, i.e. the mean L2 norm (detached; NaN before a call).
    """

    def __init__(
        self,
        loss_fn: Callable[..., Tensor],
        strength: Strength,
        grads: int | str | None,
        norm: Norm,
        images: Tensor | Iterable[Tensor] | None,
    ) -> None:
        functools.update_wrapper(self, loss_fn, updated=())
        self._iteration = self._corrected_at = 0
        self._counts_calls = True
        self.matching = torch.tensor(math.nan)
        self.difficulty = torch.tensor(math.nan)
        self._loss_fn = loss_fn
        self._grads = grads
        self._norm = norm
        self._images = list(images) if isinstance(images, Iterator) else images
        self._observed: list[tuple[Tensor, set[Node]]] = []  # norms, and what made the gradients
        self._shapes: set[torch.Size] = set()
        self._observed_at = 0
        self._misuse = Misuse()
        self._strength = strength

    @property
    def lam(self) -> float:
        """The lam of the last call, or of the iteration that was set after it."""
        return self._strength.lam

    @property
    def share(self) -> float:
        """How strong the correction is: its image gradient's norm over the matching loss's.

        It is that of the last lam with the two gradients last measured (NaN before a measure, and
        0 if lam is 0). A measure is a second backward pass, so it is made in one of 151 updates,
        or in one of 17 if lam follows from a share.
        """
        return self._strength.share

    @property
    def cosine(self) -> float:
        """The cosine between the two image gradients, as last measured (NaN before a measure)."""
        return self._strength.cosine

    @property
    def follows_share(self) -> bool:
        """Whether lam follows from a share."""
        return self._strength.follows_share

    @property
    def updates(self) -> int:
        """The number of updates so far: of calls with a graph, or of calls of ``settle``."""
        return self._strength.updates

    @property
    def measures(self) -> bool:
        """Whether the share is measured in the present update."""
        return self._strength.measures

    @property
    def needs_graph(self) -> bool:
        """Whether the correction differentiates the gradients, i.e. whether lam is above 0.

        If it is False, a loop may pass gradients without a graph; they are only recorded. The
        answer holds for all iterations: a schedule or a share always counts as above 0.
        """
        return self._strength.active

    @property
    def iteration(self) -> int:
        """The iteration that a schedule has reached: the number of corrected calls, until set.

        Set it in loops that call the loss more than once per outer iteration (DC, DSA):
        ``match_loss.iteration = it``.
        """
        return self._iteration

    @iteration.setter
    def iteration(self, value: int) -> None:
        self._iteration = self._corrected_at = value
        self._counts_calls = False
        # Of several processes, one may have no class to correct, but it settles with the others.
        self._strength.set_lam(value)

    def observe(self, gradients: Gradients) -> None:
        """Records the gradient of one inner step; the next call penalises the mean of all.

        Loops that compute their gradients one at a time (MTT, FTD, DATM) call it after
        ``torch.autograd.grad(..., create_graph=True)``. Those that the loss does not depend on are
        left out, and so is, with a warning, what was observed before ``iteration`` was set anew.
        """
        tensors = tensors_of(gradients)  # once, since they may come from an iterator
        self._note([gradient_norm(tensors)], nodes_that_made(tensors))
        self._shapes |= shapes_of(tensors)

    def observe_norms(self, norms: Iterable[Tensor]) -> None:
        """As ``observe``, for a loop that already has the norms (scalars with their graphs)."""
        self._note(list_of_norms(norms))

    def _note(self, norms: Iterable[Tensor], nodes: set[Node] | None = None) -> None:
        if self._grads is not None:
            raise ValueError(
                Family.UNROLLED.advise(
                    f"with_sdc(grads={self._grads!r}) takes the gradients from that argument, so "
                    "that none can be observed",
                    f"leave grads= out, and {Family.UNROLLED.what}",
                )
            )
        if self._observed and self._observed_at != self._iteration:
            self._misuse.warn_of_unused(len(self._observed), self._observed_at)
            self._observed = []
        self._observed_at = self._iteration
        self._observed.extend((norm, nodes or set()) for norm in norms)

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        """Returns the corrected loss, a scalar tensor; the arguments are the wrapped loss's."""
        seen, self._observed = self._observed, []
        norms: list[Tensor] = []
        if not seen:
            gradients = find_gradients(self._loss_fn, self._grads, args, kwargs)
            norms = [gradient_norm(gradients)]
            self._shapes |= shapes_of(gradients)
            if self._grads is None and norms[0].requires_grad:
                self._misuse.check_no_parameters(gradients)
        found = self._corrected(lambda loss: used_by(loss, seen) or norms, *args, **kwargs)
        self.matching, self.difficulty = found.matching, found.difficulty
        if not found.loss.requires_grad and any(norm.requires_grad for norm, _ in seen):
            self._observed = seen  # a call for logging uses nothing up
        if self.needs_graph and found.loss.requires_grad and found.term is None:
            self._misuse.warn_of_no_graph(len(seen), args, kwargs)
        return found.loss if found.term is None else self._measured(found, found.term)

    def _measured(self, found: Corrected, term: Tensor) -> Tensor:
        """Returns the corrected loss, after a measure if one is due in this call."""
        images = self._images_of(term) if self.measures else []
        gradients = self._measure(found, images) if images else None
        if gradients is None:
            self._strength.count()
            return found.loss
        held = self.lam
        self.settle(gradients, images=len(images))
        if self.follows_share and math.isnan(self.cosine):
            self._misuse.warn_of_no_share()
        return reweighted(found.loss, term, held, self.lam)

    def _measure(self, found: Corrected, images: Sequence[Tensor]) -> ImageGradients | None:
        """Differentiates the loss before the loop does; returns None where that is impossible."""
        # The graph is kept for the loop, which takes memory and which some functions do not allow.
        try:
            return self.differentiate(found, images, retain_graph=True)
        except RuntimeError as error:
            if self.follows_share:
                raise ValueError(no_second_pass(error)) from error
            return None

    def _images_of(self, term: Tensor) -> list[Tensor]:
        given = self._images
        # A gradient has the shape of its weight.
        found = find_images(term, self._shapes) if given is None else given
        images = [found] if isinstance(found, Tensor) else list(found)
        check_images(images, needed=self.follows_share)
        return images

    def corrected(self, norms: Iterable[Tensor], /, *args: Any, **kwargs: Any) -> Corrected:
        """Returns the corrected loss and its parts, for a loop that has the norms already.

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
        return self._corrected(lambda _: norms, *args, **kwargs)

    def _corrected(
        self, norms_for: Callable[[Tensor], Iterable[Tensor]], /, *args: Any, **kwargs: Any
    ) -> Corrected:
        loss = check_scalar(self._loss_fn(*args, **kwargs))
        self._corrected_at = self._iteration
        self._strength.set_lam(self._iteration)
        together = stacked(norms_for(loss))
        matching, difficulty, term = loss.detach(), together.detach().mean(), None
        if together.requires_grad:
            self._iteration += self._counts_calls
            if self.needs_graph:
                term = sdc_penalty(together, 1.0, norm=self._norm)
            if self.lam > 0 and term is not None:  # 0 times a NaN norm would spoil the loss
                loss = loss + self.lam * term
        return Corrected(loss, matching, difficulty, term)

    def differentiate(
        self, corrected: Corrected, learnt: Sequence[Tensor], *, retain_graph: bool = False
    ) -> ImageGradients:
        """Differentiates a corrected loss, and measures how strongly each part of it pulls.

        A loop that computes its image gradients itself calls this instead of
        ``torch.autograd.grad``, and ``settle`` once per update::

            gradients = loss_fn.differentiate(corrected, [images])
            (image_gradient,) = loss_fn.settle(gradients)

        Between the two, several processes may sum or broadcast the gradients, and a loop that
        differentiates class by class puts them together.

        Args:
            corrected: The result of ``corrected``.
            learnt: The tensors to differentiate by, the images first.
            retain_graph: Keep the graph for another backward pass.
        """
        term = corrected.term if self.measures else None
        keep = retain_graph or term is not None
        by_loss = torch.autograd.grad(
            corrected.loss, learnt, retain_graph=keep, materialize_grads=True
        )
        if term is None:
            return ImageGradients(list(by_loss))
        by_term = torch.autograd.grad(
            term, learnt, retain_graph=retain_graph, materialize_grads=True
        )
        return ImageGradients(list(by_loss), list(by_term))

    def settle(self, gradients: ImageGradients, *, images: int = 1) -> list[Tensor]:
        """Counts an update, and returns the gradients by which to update what is learnt.

        If the share was measured and lam follows from it, these are the gradients with the lam
        that follows from this very measure.

        Args:
            gradients: The gradients that ``differentiate`` returned.
            images: The number of tensors, from the first on, that are images; the share does not
                count labels and step sizes.
        """
        self._strength.count()
        if gradients.term is None:
            return gradients.loss
        held, by_term = self.lam, gradients.term
        both = list(zip(gradients.loss, by_term, strict=True))
        by_matching = [g - held * t for g, t in both[:images]]
        self._strength.note(Pull.of(by_matching, by_term[:images]), self._corrected_at)
        return [reweighted(g, t, held, self.lam) for g, t in both]

    def state_dict(self) -> dict[str, float]:
        """Returns what a checkpoint needs to go on to the same bits: measures and counts."""
        return {**self._strength.state_dict(), "iteration": self._iteration}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Restores what ``state_dict`` returned."""
        self._strength.load_state_dict(state)
        # Earlier versions did not save it, but where calls are counted, each is an update.
        self._iteration = self._corrected_at = int(state.get("iteration", state["updates"]))


def with_sdc(
    loss_fn: Callable[..., Tensor],
    lam: float | Schedule | None = None,
    *,
    share: float | Schedule | None = None,
    images: Tensor | Iterable[Tensor] | None = None,
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
        lam: The weight, at least 0, or a schedule that maps the iteration to the weight, such as
            [`LogRamp`][sdc_ext.LogRamp]; by default 0.002, as in the paper.
        share: The strength of the correction in place of lam: the norm of its image gradient over
            that of the matching loss's, e.g. 0.1, or a schedule of it. Lam follows from the two
            gradients, which are measured in the first call and in one of 17 from then on.
        images: The images that are learnt, by which the two are differentiated. By default they
            are found in the graph of the gradients: its leaf tensors of at least three dimensions
            that are no weights or, if there are none, those of two. Parameters of a module are
            weights, and where these are plain tensors, whatever has the shape of one of them.
        grads: The argument of ``loss_fn`` that holds the synthetic gradients, by position or
            name. By default observed gradients are used if there are any, and otherwise the
            first argument, which must then be a list, tuple or dict of tensors.
        norm: ``"l2"`` as in Eq. 11 and 12, or ``"l2_squared"`` as in Algorithms 1 and 2.

    Raises:
        TypeError: If ``loss_fn`` is not callable, or ``lam`` or ``share`` is not a number.
        ValueError: If both are given, one of them is negative or not finite, or ``norm`` is
            unknown.

    Reference: the SDC paper, Eq. 11 and 12; the share is ours.

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
            Family.INLINE.advise(
                f"loss_fn must be callable, got {type(loss_fn).__name__}",
                f"pass the matching loss itself, not its value, or {Family.INLINE.what}",
            )
        )
    check_choice("norm", norm, get_args(Norm))
    return SDCLoss(loss_fn, Strength.chosen(lam, share), grads, norm, images)

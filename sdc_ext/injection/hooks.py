"""Corrects unmodified loops by hooks on the functions with which they call autograd.

While an injection is active, ``torch.autograd.grad``, ``torch.autograd.backward`` (which
``Tensor.backward`` calls), ``GradScaler.scale`` and ``Optimizer.__init__`` are replaced by
versions that observe each call and pass it on; leaving the ``with`` block restores them.
Gradients are captured where the loop asks for them with ``create_graph=True``. The loss itself
is never changed: the term is one more root of the same backward pass, so what the loop logs or
compares stays its own loss.
"""

from __future__ import annotations

import functools
import linecache
import math
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeAlias, get_args
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.utils.weak import WeakIdKeyDictionary

from sdc_ext._graphs import depends_on_leaf
from sdc_ext.errors import DivergenceError, InjectionError, InputError, check_choice
from sdc_ext.injection.corrections import BackwardCorrection, Correction, StepwiseCorrection
from sdc_ext.injection.measures import BackwardPass
from sdc_ext.injection.patches import Patches
from sdc_ext.injection.profiles import PROFILES, Profile
from sdc_ext.injection.recognition import read_facts
from sdc_ext.injection.record import InjectionRecord
from sdc_ext.injection.term import Term
from sdc_ext.regularizer import Norm, Reduction
from sdc_ext.sdc_loss import Corrected, SDCLoss
from sdc_ext.strength import Schedule, Strength

Choice: TypeAlias = Literal["auto", "gm", "tm", "tesla"]


_active: list[Injection] = []


def inject(
    lam: float | Schedule | None = None,
    *,
    share: float | Schedule | None = None,
    profile: Choice = "auto",
    norm: Norm = "l2",
    reduction: Reduction | None = None,
    scale: float = 1.0,
    strict: bool = True,
) -> Injection:
    """Corrects the matching loop that runs inside the ``with`` block, without editing it.

    For gradient matching (Eq. 11) the term is ``lam * sum ||gw_syn||_2`` over the gradients that
    the matching loss depends on; for trajectory matching (Eq. 12) it is
    ``lam * mean_n ||g_n||_2``. With ``lam = 0`` the results are the same, bit for bit, and the
    difficulty is still recorded.

    A gradient is penalised if it depends on the synthetic images (or on whatever else is learnt),
    and its term goes into the loss that depends on it. Every such loss gets a term: for a loop
    that averages K losses before an image step, pass ``scale=1/K``.

    Args:
        lam: The weight, at least 0, or a schedule that maps the outer iteration to the weight,
            such as [`LogRamp`][sdc_ext.LogRamp]; by default 0.002, as in the paper. An outer
            iteration is a network for gradient matching and an image step for trajectory matching.
        share: The strength of the correction in place of lam: the norm of its image gradient over
            that of the loop's own loss, e.g. 0.1, or a schedule of it. Lam follows from the two
            gradients, which are measured in the first image step and in one of 17 from then on.
            TESLA's loops have their first lam in the second image step.
        profile: The kind of loop: ``"gm"`` (DC, DSA, DCC), ``"tm"`` (MTT, FTD, DATM) or
            ``"tesla"`` (image gradients by hand). ``"auto"`` recognises it from the source file
            that asks for the gradients.
        norm: ``"l2"`` as in Eq. 11 and 12, or ``"l2_squared"`` as in Algorithms 1 and 2.
        reduction: ``"sum"`` or ``"mean"`` over the norms of an image step. By default it is the
            sum for gradient matching, whose loss is a sum over classes, too, and the mean for
            trajectory matching. DCC switches from one norm per class to a single norm after its
            warm-up, which weakens a sum about sixtyfold and a mean about sixfold.
        scale: A further factor of the term, above 0. TESLA's script computes half the gradient
            of its matching loss, so lam has twice the effect there; 0.5 restores MTT's balance.
        strict: Whether a loop that does not fit its profile is an error or only a warning.

    Returns:
        A context manager that yields an [`InjectionRecord`][sdc_ext.injection.InjectionRecord].

    Raises:
        TypeError: If lam or share is not a number.
        ValueError: If both are given, or lam, share, norm, reduction, scale or profile is not
            allowed.
        InjectionError: Inside the block, if the loop does not behave as the profile says, or a
            share cannot be measured; at its end, if nothing was corrected.
        DivergenceError: Inside the block, before an image step whose gradient is not finite,
            unless lam is 0.

    Reference: the SDC paper, Eq. 11 and 12; the share is ours.
    """
    strength = Strength.chosen(lam, share)
    if not (math.isfinite(scale) and scale > 0):
        raise InputError(f"scale must be finite and above 0, got {scale}: 1 leaves lam as it is")
    check_choice("profile", profile, get_args(Choice))
    check_choice("norm", norm, get_args(Norm))
    if reduction is not None:
        check_choice("reduction", reduction, get_args(Reduction))

    def term(profile: Profile) -> Term:
        return Term(strength, norm, reduction or PROFILES[profile].reduction, scale)

    return Injection(profile, term, strict)


class Injection:
    """The context manager that [`inject`][sdc_ext.inject] returns; it can be entered once.

    Attributes:
        record: The record that entering the context returns; it stays readable afterwards.
    """

    def __init__(self, profile: Choice, term: Callable[[Profile], Term], strict: bool) -> None:
        self.record = InjectionRecord()
        self._term = term
        self._strict = strict
        self._correction: Correction | None = None
        self._looked_at: set[str] = set()
        self._patches = Patches()
        self._grad: Callable[..., Any] = torch.autograd.grad
        self._loss_scales: Any = WeakIdKeyDictionary()  # factors of mixed precision by scaled loss
        self._images: Any = WeakIdKeyDictionary()  # image tensors that optimisers update
        self._steps_before: WeakKeyDictionary[Optimizer, int] = WeakKeyDictionary()
        if profile != "auto":
            self._correct_as(profile)

    def __enter__(self) -> InjectionRecord:
        if _active or self._looked_at or self.record.steps:
            raise InjectionError(
                "an injection is already active, or this one was used before: call inject() again "
                "after the active one has ended"
            )
        _active.append(self)
        self._grad = torch.autograd.grad
        self._patches.wrap(torch.autograd, "grad", self._watch_grad)
        self._patches.wrap(torch.autograd, "backward", self._watch_backward)
        self._patches.wrap(torch.amp.GradScaler, "scale", self._watch_scale)
        self._patches.wrap(Optimizer, "__init__", self._watch_making)
        self._patches.wrap(SDCLoss, "corrected", self._watch_with_sdc)
        self._patches.add(register_optimizer_step_pre_hook(self._before_step).remove)
        self._patches.add(register_optimizer_step_post_hook(self._after_step).remove)
        return self.record

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._patches.undo()
        _active.clear()
        if self._correction is not None:
            self._correction.drop()
        # A script that exits well without ever making images, such as one that prints its help,
        # is not to be blamed for correcting nothing.
        stopped_well = isinstance(error, SystemExit) and not error.code and len(self._images)
        if not self.record.steps and (error is None or stopped_well):
            self._complain_of_nothing()

    def _watch_grad(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def grad(
            outputs: Any,
            inputs: Any,
            grad_outputs: Any = None,
            retain_graph: bool | None = None,
            create_graph: bool = False,
            *args: Any,
            **kwargs: Any,
        ) -> Any:
            outputs, inputs, grad_outputs = _kept(outputs), _kept(inputs), _kept(grad_outputs)
            rest = (retain_graph, create_graph, *args)
            correction = self._find_correction(sys._getframe(1).f_code.co_filename)
            by, roots = _tensors(inputs), _tensors(outputs)
            if correction is None or not by or not roots:
                return original(outputs, inputs, grad_outputs, *rest, **kwargs)
            asked = self._backward_pass(roots, grad_outputs)
            if not create_graph:
                term = correction.plain_gradient(asked, by)
                outputs, grad_outputs = _with_term(term, asked, outputs)
            gradients = original(outputs, inputs, grad_outputs, *rest, **kwargs)
            if create_graph and self._is_synthetic(_tensors(gradients), by):
                correction.capture(by, _tensors(gradients), asked.loss_scale)
            return gradients

        return grad

    def _watch_backward(self, original: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(original)
        def backward(tensors: Any, grad_tensors: Any = None, *args: Any, **kwargs: Any) -> None:
            tensors, grad_tensors = _kept(tensors), _kept(grad_tensors)
            losses = _tensors(tensors)
            if self in _active and self._correction is not None and losses:
                asked = self._backward_pass(losses, grad_tensors)
                term = self._correction.backward(asked)
                tensors, grad_tensors = _with_term(term, asked, tensors)
            original(tensors, grad_tensors, *args, **kwargs)

        return backward

    def _watch_scale(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Remembers the factor of each scaled loss, since the correction needs the same one."""

        @functools.wraps(original)
        def scale(scaler: torch.amp.GradScaler, outputs: Any) -> Any:
            outputs = _kept(outputs)
            scaled = original(scaler, outputs)
            for tensor, result in zip(_tensors(outputs), _tensors(scaled), strict=True):
                factor = original(scaler, torch.ones_like(tensor.detach()))
                self._loss_scales[result] = factor
            return scaled

        return scale

    def _watch_making(self, original: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(original)
        def init(optimizer: Optimizer, *args: Any, **kwargs: Any) -> None:
            original(optimizer, *args, **kwargs)
            self._steps_before[optimizer] = len(self.record.steps)
            new = [t for t in images_of(optimizer) if t not in self._images]
            for tensor in new:
                self._images[tensor] = True
            if new and self._correction is not None:
                self._correction.begin()

        return init

    def _watch_with_sdc(self, original: Callable[..., Corrected]) -> Callable[..., Corrected]:
        @functools.wraps(original)
        def corrected(loss: SDCLoss, *args: Any, **kwargs: Any) -> Corrected:
            if self._correction is None or self._correction.active:
                self._complain(
                    "the loop already corrects its loss by with_sdc: remove with_sdc or the "
                    "injection, or inject lam 0 to observe only"
                )
            return original(loss, *args, **kwargs)

        return corrected

    def _backward_pass(self, roots: Sequence[Tensor], seeds: Any) -> BackwardPass:
        return BackwardPass(roots, seeds, self._loss_scales.get(roots[0]), self._images, self._grad)

    def _is_synthetic(self, gradients: Sequence[Tensor], by: Sequence[Tensor]) -> bool:
        """Returns whether gradients depend on learnt data and not only on a network."""

        def learnt(leaf: Tensor) -> bool:
            if leaf.ndim < 2 or any(leaf is tensor for tensor in by):
                return False
            return leaf in self._images or not isinstance(leaf, torch.nn.Parameter)

        return depends_on_leaf(gradients, learnt)

    def _before_step(self, optimizer: Optimizer, *_: Any) -> None:
        if self._correction is None or not self._correction.active:
            return
        for images in images_of(optimizer):
            if images.grad is not None and not images.grad.isfinite().all():
                at = f" after {self.record.steps[-1]}" if self.record.steps else ""
                raise DivergenceError(
                    f"the image gradient became NaN or infinite{at}: lower lam or the learning "
                    "rate of the images"
                )
            self.record.keep(images)

    def _after_step(self, optimizer: Optimizer, *_: Any) -> None:
        images, correction = images_of(optimizer), self._correction
        before = self._steps_before.get(optimizer, 0)
        self._steps_before[optimizer] = len(self.record.steps)
        if not images:
            return
        if correction is None:
            self._complain_of_nothing()
            return
        wrong = correction.left_over()
        if wrong is not None:
            correction.drop()
            self._complain(
                "captured gradients are left over at an image step, so the profile "
                f"{self.record.profile!r} does not fit: {wrong}"
            )
        elif before == len(self.record.steps):
            self._complain(
                f"images of shape {tuple(images[0].shape)} were updated without a correction, "
                "since no gradient with create_graph=True led to this step: choose another "
                f"profile than {self.record.profile!r}, or switch strict off if some steps need "
                "no correction"
            )

    def _find_correction(self, filename: str) -> Correction | None:
        """Returns the correction; with the profile auto, first chooses it by the calling file."""
        # The script may have bound the hooked function to a name of its own, and call it after
        # the injection has ended.
        if self not in _active:
            return None
        if self._correction is None and filename not in self._looked_at:
            self._looked_at.add(filename)
            profile = read_facts("".join(linecache.getlines(filename))).profile
            if profile is not None and profile != "none":
                self._correct_as(profile)
        return self._correction

    def _correct_as(self, profile: Profile) -> None:
        self.record.profile = profile
        shared = (self._term(profile), self._complain, self.record.steps)
        if profile == "tesla":
            self._correction = StepwiseCorrection(*shared)
        else:
            self._correction = BackwardCorrection(*shared, trajectories=profile == "tm")

    def _complain(self, what: str) -> None:
        if self._strict:
            raise InjectionError(what)
        warnings.warn(what, stacklevel=4)

    def _complain_of_nothing(self) -> None:
        looked = ", ".join(Path(name).name for name in sorted(self._looked_at))
        if self._correction is not None:
            why = (
                f"with the profile {self.record.profile!r}, no differentiated loss depended on "
                "gradients computed with create_graph=True"
            )
        elif looked:
            why = f"{looked} computes gradients, but its kind of loop was not recognised"
        else:
            why = "nothing called torch.autograd.grad"
        self._complain(
            f"nothing was corrected: {why}; choose the profile gm, tm or tesla, and call "
            "torch.autograd.grad by this name, since torch.func.grad and names bound by 'from "
            "torch.autograd import grad' before the injection cannot be observed"
        )


def _kept(values: Any) -> Any:
    """Returns an iterator's values as a tuple, since reading them would use it up."""
    as_it_is = values is None or isinstance(values, (Tensor, dict, tuple, list))
    return values if as_it_is else tuple(values)


def _tensors(values: Any) -> list[Tensor]:
    if isinstance(values, Tensor):
        return [values]
    values = values.values() if isinstance(values, dict) else values
    return [v for v in values if isinstance(v, Tensor)]


def _with_term(term: Tensor | None, asked: BackwardPass, roots: Any) -> tuple[Any, Any]:
    """Returns the roots of a backward pass and their seeds, with the term as one more root."""
    seeds = asked.seeds
    if term is None:
        return roots, seeds
    roots = (roots,) if isinstance(roots, Tensor) else tuple(roots)
    if seeds is not None:
        seeds = (seeds,) if isinstance(seeds, Tensor) else tuple(seeds)
        seeds = (*seeds, None)
    return (*roots, asked.scaled(term)), seeds


def images_of(optimizer: Optimizer) -> list[Tensor]:
    """Returns the synthetic images that an optimiser updates; none for a network's optimiser.

    An optimiser of images holds at most labels and a learning rate besides them, whereas a
    network has more tensors.
    """
    updated = [t for group in optimizer.param_groups for t in group["params"]]
    return [t for t in updated if t.ndim > 2] if len(updated) <= 3 else []

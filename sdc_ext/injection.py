"""SDC for loops that nobody edits: the correction goes in where they call autograd.

While an injection is active, ``torch.autograd.grad``, ``torch.autograd.backward`` (which
``Tensor.backward`` calls), ``GradScaler.scale`` and the making of optimisers are replaced by
versions that look and pass on; leaving it puts them back. Gradients are captured where the loop
asks for them with ``create_graph=True``. The loss itself is never touched: the term is one more
root of the same backward pass, so logs and thresholds see what they always saw.
"""

from __future__ import annotations

import csv
import functools
import linecache
import math
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from sdc_ext.corrections import (
    REDUCTIONS,
    BackwardCorrection,
    Correction,
    InjectionError,
    Reduction,
    Step,
    StepwiseCorrection,
    Strength,
)
from sdc_ext.errors import DivergenceError, InputError, check_choice
from sdc_ext.patches import Patches
from sdc_ext.recognition import Profile, read_facts
from sdc_ext.regularizer import Norm, Schedule, check_lam

Choice: TypeAlias = Literal["auto", "gm", "tm", "tesla"]

_COLUMNS = ("iteration", "lam", "captured", "difficulty", "matching")
_active: list[Injection] = []


def inject(
    lam: float | Schedule = 0.002,
    *,
    profile: Choice = "auto",
    norm: Norm = "l2",
    reduction: Reduction | None = None,
    scale: float = 1.0,
    strict: bool = True,
) -> Injection:
    """Corrects whatever matching loop runs inside the ``with`` block, from outside.

    For gradient matching (Eq. 11) the term is ``lam * sum ||gw_syn||_2`` over the gradients that
    a matching loss is made of, for trajectories (Eq. 12) ``lam * mean_n ||g_n||_2``. With
    ``lam = 0`` nothing changes, bit for bit, and the difficulty is recorded all the same.

    Args:
        lam: the weight, at least 0, or a schedule from the outer iteration to it, such as
            :class:`~sdc_ext.regularizer.LogRamp`. For gradient matching an outer iteration is a
            network, for trajectories an image step.
        profile: how the loop works: ``"gm"`` (DC, DSA, DCC), ``"tm"`` (MTT, FTD, DATM) or
            ``"tesla"`` (image gradients by hand). ``"auto"`` reads the source file that asks
            for the gradients.
        norm: ``"l2"`` as in Eq. 11 and 12, or ``"l2_squared"`` as in Algorithms 1 and 2.
        reduction: ``"sum"`` or ``"mean"`` over the norms of an image step; by default the sum
            for gradient matching, whose loss is a sum over classes, too, and else the mean. DCC
            goes from one norm a class to a single one after its warm-up, which weakens a sum
            about sixtyfold, a mean some sixfold.
        scale: a further factor of the term. TESLA's original computes half the gradient of its
            matching loss, so lam counts double there; 0.5 restores the balance of MTT.
        strict: whether a loop that does not fit its profile is an error, or only a warning.

    Returns:
        A context manager that yields an :class:`InjectionRecord`.

    Raises:
        TypeError, ValueError: for a lam, norm, reduction, scale or profile that is not allowed.
        InjectionError: inside the block, if the loop does not do what the profile says; at its
            end, if nothing was corrected.
        DivergenceError: inside the block, before an image step whose gradient is not finite,
            unless lam is 0.

    Reference: the SDC paper, Eq. 11 and 12.
    """
    check_lam(lam(0) if callable(lam) else lam)
    if not (math.isfinite(scale) and scale > 0):
        raise InputError(f"scale must be finite and above 0, got {scale}: 1 leaves lam as it is")
    check_choice("profile", profile, get_args(Choice))
    check_choice("norm", norm, get_args(Norm))
    if reduction is not None:
        check_choice("reduction", reduction, get_args(Reduction))

    def strength(profile: Profile) -> Strength:
        return Strength(lam, norm, reduction or REDUCTIONS[profile], scale)

    return Injection(profile, strength, strict)


class InjectionRecord:
    """What an injection has seen.

    Attributes:
        profile: how the loop is corrected, None as long as that is not known.
        steps: the corrected image steps, in order.
        images: a copy of the last images (N, C, H, W) whose gradient was finite, None before
            that, and if lam is 0.
    """

    def __init__(self) -> None:
        self.profile: Profile | None = None
        self.steps: list[Step] = []
        self.images: Tensor | None = None

    def columns(self) -> dict[str, list[float]]:
        """The steps as columns of numbers, named as :class:`Step`'s attributes."""
        return {name: [float(getattr(s, name)) for s in self.steps] for name in _COLUMNS}

    def write_csv(self, path: Path) -> None:
        """Writes the steps as a table with a header."""
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(_COLUMNS)
            writer.writerows(zip(*self.columns().values(), strict=True))


class Injection:
    """The context manager that :func:`inject` returns; it can be entered once."""

    def __init__(
        self, profile: Choice, strength: Callable[[Profile], Strength], strict: bool
    ) -> None:
        self.record = InjectionRecord()
        self._strength = strength
        self._strict = strict
        self._correction: Correction | None = None
        self._loss_scale: Tensor | None = None
        self._looked_at: set[str] = set()
        self._patches = Patches()
        if profile != "auto":
            self._correct_as(profile)

    def __enter__(self) -> InjectionRecord:
        if _active:
            raise InjectionError("an injection is active already: leave it first")
        _active.append(self)
        self._patches.wrap(torch.autograd, "grad", self._watch_grad)
        self._patches.wrap(torch.autograd, "backward", self._watch_backward)
        self._patches.wrap(torch.amp.GradScaler, "scale", self._watch_scale)
        self._patches.wrap(Optimizer, "__init__", self._watch_making)
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
        ended_well = error is None or (isinstance(error, SystemExit) and not error.code)
        if ended_well and not self.record.steps:
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
            rest = (retain_graph, create_graph, *args)
            correction = self._find_correction(sys._getframe(1).f_code.co_filename)
            by = _tensors(inputs)
            if correction is None or not by:
                return original(outputs, inputs, grad_outputs, *rest, **kwargs)
            if not create_graph:
                term = correction.plain_gradient(by)
                outputs, grad_outputs = _with_root(term, outputs, grad_outputs)
            gradients = original(outputs, inputs, grad_outputs, *rest, **kwargs)
            if create_graph and any(g.requires_grad for g in _tensors(gradients)):
                correction.capture(by, _tensors(gradients))
            return gradients

        return grad

    def _watch_backward(self, original: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(original)
        def backward(tensors: Any, grad_tensors: Any = None, *args: Any, **kwargs: Any) -> None:
            losses = _tensors(tensors)
            if self._correction is not None and losses:
                term = self._correction.backward(losses[0])
                if term is not None and self._loss_scale is not None:
                    term = term * self._loss_scale
                tensors, grad_tensors = _with_root(term, tensors, grad_tensors)
            self._loss_scale = None
            original(tensors, grad_tensors, *args, **kwargs)

        return backward

    def _watch_scale(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """The correction has to be scaled as the loss is, or half precision loses it."""

        @functools.wraps(original)
        def scale(scaler: torch.amp.GradScaler, outputs: Any) -> Any:
            if isinstance(outputs, Tensor):
                self._loss_scale = original(scaler, torch.ones_like(outputs.detach()))
            return original(scaler, outputs)

        return scale

    def _watch_making(self, original: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(original)
        def init(optimizer: Optimizer, *args: Any, **kwargs: Any) -> None:
            original(optimizer, *args, **kwargs)
            if self._correction is not None and images_of(optimizer) is not None:
                self._correction.begin()

        return init

    def _before_step(self, optimizer: Optimizer, *_: Any) -> None:
        images = images_of(optimizer)
        if images is None or self._correction is None or not self._correction.strength.active:
            return
        if images.grad is not None and not images.grad.isfinite().all():
            at = "" if not self.record.steps else f" after {_describe(self.record.steps[-1])}"
            raise DivergenceError(
                f"the image gradient became NaN or infinite{at}: lower lam or the learning rate "
                "of the images"
            )
        self.record.images = images.detach().clone()

    def _after_step(self, optimizer: Optimizer, *_: Any) -> None:
        correction = self._correction
        if correction is None:
            if images_of(optimizer) is not None:
                self._complain_of_nothing()
            return
        better = correction.left_over()
        if better is not None:
            correction.drop()
            self._complain(
                "captured gradients are left over at an optimiser step, so the profile "
                f"{self.record.profile!r} does not fit: use the profile {better}"
            )
        if images_of(optimizer) is not None:
            if not correction.since_image_step:
                self._complain(
                    "the images were updated without a correction: no gradient with "
                    "create_graph=True led to this step; choose another profile than "
                    f"{self.record.profile!r}, or switch strict off if some steps are meant to "
                    "do without"
                )
            correction.since_image_step = 0

    def _find_correction(self, filename: str) -> Correction | None:
        """The correction; at first, as long as the profile is auto, from the calling file."""
        if self._correction is None and filename not in self._looked_at:
            self._looked_at.add(filename)
            profile = read_facts("".join(linecache.getlines(filename))).profile
            if profile not in (None, "none"):
                self._correct_as(profile)
        return self._correction

    def _correct_as(self, profile: Profile) -> None:
        self.record.profile = profile
        shared = (self._strength(profile), self._complain, self.record.steps)
        if profile == "tesla":
            self._correction = StepwiseCorrection(*shared)
        else:
            self._correction = BackwardCorrection(*shared, trajectories=profile == "tm")

    def _complain(self, what: str) -> None:
        if self._strict:
            raise InjectionError(what)
        warnings.warn(what, stacklevel=4)

    def _complain_of_nothing(self) -> None:
        if self._correction is None:
            looked = ", ".join(Path(name).name for name in sorted(self._looked_at)) or "no file"
            self._complain(
                f"nothing was corrected: of the files that call torch.autograd.grad ({looked}) "
                "none could be recognised; choose the profile gm, tm or tesla. Names bound by "
                "'from torch.autograd import grad' before the injection are not seen"
            )
        else:
            self._complain(
                f"nothing was corrected: with the profile {self.record.profile!r} no image step "
                "was seen whose gradients were asked for with create_graph=True; choose another "
                "profile, and let the script take at least one step"
            )


def _tensors(values: Any) -> list[Tensor]:
    if isinstance(values, Tensor):
        return [values]
    values = values.values() if isinstance(values, dict) else values
    return [v for v in values if isinstance(v, Tensor)]


def _with_root(term: Tensor | None, roots: Any, seeds: Any) -> tuple[Any, Any]:
    """The roots of a backward pass and their seeds, with one more scalar root."""
    if term is None:
        return roots, seeds
    roots = (roots,) if isinstance(roots, Tensor) else tuple(roots)
    if seeds is not None:
        seeds = (seeds,) if isinstance(seeds, Tensor) else tuple(seeds)
        seeds = (*seeds, None)
    return (*roots, term), seeds


def images_of(optimizer: Optimizer) -> Tensor | None:
    """The synthetic images among what an optimiser updates; None for one of a network."""
    updated: list[Tensor] = [t for group in optimizer.param_groups for t in group["params"]]
    for tensor in updated:
        plain = not isinstance(tensor, torch.nn.Parameter) or len(updated) == 1
        if tensor.ndim > 2 and plain:
            return tensor
    return None


def _describe(step: Step) -> str:
    return (
        f"iteration {step.iteration} (matching loss {float(step.matching):.4g}, GraDN "
        f"{float(step.difficulty):.4g}, lam {step.lam:g})"
    )

"""Corrects unmodified loops by hooks on the functions with which they call autograd.

While an injection is active, the functions by which ``torch.autograd`` and ``torch.func`` compute
gradients, ``GradScaler.scale``, ``Optimizer.add_param_group`` and ``Optimizer.zero_grad`` are
replaced by versions that observe each call and pass it on; leaving the ``with`` block restores
them.
Gradients are captured where the loop asks for them with ``create_graph=True``. The loss itself
is never changed: the term is one more root of the same backward pass, so what the loop logs or
compares stays its own loss.
"""

from __future__ import annotations

import functools
import gc
import linecache
import math
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Literal, TypeAlias, get_args
from weakref import WeakSet

from torch.optim import Optimizer
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from sdc_ext.errors import DivergenceError, InjectionError, InputError, check_choice
from sdc_ext.injection.backward import BackwardCorrection
from sdc_ext.injection.corrections import Correction
from sdc_ext.injection.features import FeatureCorrection
from sdc_ext.injection.interception import Interception
from sdc_ext.injection.learnt import Roles, images_of, tensors_of
from sdc_ext.injection.patches import Patches
from sdc_ext.injection.profiles import IF_FEATURES, PROFILES, Profile
from sdc_ext.injection.recognition import best_fit
from sdc_ext.injection.record import InjectionRecord
from sdc_ext.injection.stepwise import StepwiseCorrection
from sdc_ext.injection.term import Term
from sdc_ext.regularizer import Norm, Reduction
from sdc_ext.sdc_loss import Corrected, SDCLoss
from sdc_ext.strength import Schedule, Strength

Choice: TypeAlias = Literal["auto", "gm", "tm", "tesla", "dm"]


# A measure of an unmodified loop takes two more backward passes, where the methods' own loops take
# one, so it has to be rarer to cost less than 5 % of trajectory matching.
REFRESHED_EVERY = 29

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

    A gradient is penalised if it depends on what is learnt, such as images, latent codes or the
    parameters of a decoder, and its term goes into the loss that depends on it. Gradients that no
    loss uses do not count, as those of inner steps after the one that is matched. Every loss that
    is differentiated gets a term, and they add up as the losses do: for a loop that averages K
    losses before an image step, pass ``scale=1/K``. An image step lasts until an optimiser of
    what is learnt makes its step or clears its gradients, however many passes that takes.

    Args:
        lam: The weight, at least 0, or a schedule that maps the outer iteration to the weight,
            such as [`LogRamp`][sdc_ext.LogRamp]; by default 0.002, as in the paper. An outer
            iteration is a network for gradient matching, and an image step for others.
        share: The strength of the correction in place of lam: the norm of its image gradient over
            that of the loop's own loss, e.g. 0.1, or a schedule of it. Lam follows from the two
            gradients, which are measured in the first image step and in one of 29 from then on.
            TESLA's loops have their first lam in the second image step.
        profile: The kind of loop: ``"gm"`` (DC, DSA, DCC), ``"tm"`` (MTT, FTD, DATM),
            ``"tesla"`` (image gradients by hand) or ``"dm"`` (features: DM, CAFE, DataDAM), whose
            difficulty takes one more forward and backward pass through the synthetic images.
            ``"auto"`` recognises it from the source file that asks for the gradients; ``"dm"`` has
            to be asked for.
        norm: ``"l2"`` as in Eq. 11 and 12, or ``"l2_squared"`` as in Algorithms 1 and 2.
        reduction: ``"sum"`` or ``"mean"`` over the norms of a loss. By default it is the
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
    strength = Strength.chosen(lam, share, refreshed_every=REFRESHED_EVERY)
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
        self._looked_at: dict[str, None] = {}  # in order
        self._patches = Patches()
        self._interception = Interception(self._find_correction)
        self._roles = Roles()
        self._may_have_learnt = False
        self._told: WeakSet[Optimizer] = WeakSet()
        if profile != "auto":
            self._correct_as(profile)

    def __enter__(self) -> InjectionRecord:
        if _active or self._looked_at or self.record.steps:
            raise InjectionError(
                "an injection is already active, or this one was used before: call inject() again "
                "after the active one has ended"
            )
        _active.append(self)
        for optimizer in _existing_optimizers():
            self._register(optimizer)
        self._interception.install(self._patches)
        if self._correction is not None:
            self._correction.watch(self._patches)
        self._patches.wrap(Optimizer, "add_param_group", self._watch_groups)
        self._patches.wrap(Optimizer, "zero_grad", self._watch_clearing)
        self._patches.wrap(SDCLoss, "_corrected", self._watch_with_sdc)
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
        # A script that exits well without ever updating what may be learnt, such as one that
        # prints its help, is not to be blamed for correcting nothing.
        stopped_well = isinstance(error, SystemExit) and not error.code and self._may_have_learnt
        if not self.record.steps and (error is None or stopped_well):
            self._complain_of_nothing()

    def _watch_groups(self, original: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(original)
        def add_param_group(optimizer: Optimizer, *args: Any, **kwargs: Any) -> None:
            original(optimizer, *args, **kwargs)  # a new optimiser calls it for each of its groups
            self._register(optimizer)

        return add_param_group

    def _watch_clearing(self, original: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(original)
        def zero_grad(optimizer: Optimizer, *args: Any, **kwargs: Any) -> None:
            original(optimizer, *args, **kwargs)
            if self._correction is not None and self._roles.updates_learnt(optimizer):
                self._correction.end_step()

        return zero_grad

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

    def _register(self, optimizer: Optimizer) -> None:
        self._roles.register(optimizer)
        self._may_have_learnt |= bool(images_of(optimizer))

    def _before_step(self, optimizer: Optimizer, *_: Any) -> None:
        if self._correction is None or not self._correction.active:
            return
        # Gradients may have flowed on by hand, as those of images do to latent codes.
        follows = self._roles.is_corrected(optimizer)
        follows = follows and self._roles.may_update_learnt(optimizer, rates=True)
        if not (follows or self._roles.updates_learnt(optimizer)):
            return
        learnt = tensors_of(optimizer)
        if not all(t.grad is None or t.grad.isfinite().all() for t in learnt):
            at = f" after {self.record.steps[-1]}" if self.record.steps else ""
            raise DivergenceError(
                f"the image gradient became NaN or infinite{at}: lower lam or the learning "
                "rate of the images"
            )
        self.record.keep(learnt)

    def _after_step(self, optimizer: Optimizer, *_: Any) -> None:
        self._may_have_learnt = True
        corrected, correction = self._roles.is_corrected(optimizer), self._correction
        self._roles.note_step(optimizer)
        if not self._roles.updates_learnt(optimizer):
            if self._roles.may_update_learnt(optimizer):
                self._after_other_step(optimizer, corrected)
            return
        if correction is None:
            self._complain_of_nothing()
            return
        wrong = correction.left_over()
        if wrong is not None:
            correction.drop()
            self._complain(
                "captured gradients are left over at an image step, with the profile "
                f"{self.record.profile!r}: {wrong}"
            )
        elif not corrected and _has_gradient(optimizer):
            self._complain(
                f"{_described(optimizer)} were updated without a correction, since "
                f"{self._missing()}, or switch strict off if some steps need no correction"
            )
        correction.end_step()

    def _after_other_step(self, optimizer: Optimizer, corrected: bool) -> None:
        """Says at once, and only once, that tensors are updated to which no term has gone."""
        if corrected and self._correction is not None:
            self._correction.end_step()
        elif not corrected and optimizer not in self._told:
            self._told.add(optimizer)
            sys.stderr.write(
                f"sdc-ext: {_described(optimizer)} were updated without a correction: if they "
                "are learnt, no gradient with create_graph=True has led to them so far\n"
            )

    def _find_correction(self, frame: FrameType | None) -> Correction | None:
        """Returns the correction; with the profile auto, first chooses it by the calling file."""
        # The script may have bound the hooked function to a name of its own, and call it after
        # the injection has ended.
        if self not in _active:
            return None
        if self._correction is None and frame is not None:
            self._recognise(_files_around(frame))
        return self._correction

    def _recognise(self, files: Sequence[str]) -> None:
        """Chooses the profile by the source of the files whose functions ask for gradients."""
        if all(name in self._looked_at for name in files):
            return
        self._looked_at |= dict.fromkeys(files)
        texts = {Path(name): "".join(linecache.getlines(name)) for name in self._looked_at}
        found = best_fit(texts)
        if found is not None and found[1].profile in ("gm", "tm", "tesla"):
            self._correct_as(found[1].profile)

    def _correct_as(self, profile: Profile) -> None:
        self.record.profile = profile
        shared = (self._term(profile), self._complain, self.record.steps, self._roles)
        if profile == "tesla":
            self._correction = StepwiseCorrection(*shared)
        elif profile == "dm":
            self._correction = FeatureCorrection(*shared)
        else:
            self._correction = BackwardCorrection(*shared, trajectories=profile == "tm")

    def _complain(self, what: str) -> None:
        if self._strict:
            raise InjectionError(what)
        warnings.warn(what, stacklevel=4)

    def _complain_of_nothing(self) -> None:
        looked = ", ".join(Path(name).name for name in sorted(self._looked_at))
        if self._correction is None and looked:
            self._complain(
                f"nothing was corrected, since {looked} computes gradients, but its kind of loop "
                "was not recognised: choose the profile gm, tm, tesla or dm by the kind of loop, "
                "or wrap its matching loss in with_sdc"
            )
        else:
            self._complain(f"nothing was corrected, since {self._missing()}")

    def _missing(self) -> str:
        """Says what a correction would have needed, and what to do without it."""
        if self.record.profile is None:
            return f"nothing asked for gradients with create_graph=True: {IF_FEATURES}"
        return PROFILES[self.record.profile].missing


def _described(optimizer: Optimizer) -> str:
    """Returns what an optimiser updates, in words."""
    shapes = [tuple(t.shape) for t in images_of(optimizer) or tensors_of(optimizer)]
    if images_of(optimizer):
        return f"images of shape {shapes[0]}"
    return f"an optimiser's tensors, {len(shapes)} with the first of shape {shapes[0]},"


def _has_gradient(optimizer: Optimizer) -> bool:
    """Returns whether an optimiser has something to update its tensors by."""
    return any(t.grad is not None and bool(t.grad.any()) for t in tensors_of(optimizer))


def _files_around(frame: FrameType) -> list[str]:
    """Returns the file of a function, and those of its callers that lie beside it."""
    name = frame.f_code.co_filename
    folder, files = Path(name).parent, [name]
    caller = frame.f_back
    while caller is not None:
        beside = caller.f_code.co_filename
        if Path(beside).parent == folder and beside not in files:
            files.append(beside)
        caller = caller.f_back
    return files


def _existing_optimizers() -> list[Optimizer]:
    return [o for o in gc.get_objects() if issubclass(type(o), Optimizer)]

"""Decides where and how strongly an unmodified loop is corrected; one class per kind of loop.

The classes see what the loop asks of autograd, in order, through three calls: ``capture`` for a
gradient with a graph, ``plain_gradient`` for one without, ``backward`` for a backward pass. They
do not know how these calls were intercepted.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.weak import TensorWeakRef

from sdc_ext._graphs import depends_on
from sdc_ext.injection.measures import BackwardPass, Measure
from sdc_ext.injection.record import Step
from sdc_ext.injection.term import Term
from sdc_ext.regularizer import gradient_norm

# The last resort against a loop that never calls backward. Loops that do keep one gradient per
# class (200 for Tiny ImageNet) or one per inner step (about 100).
_MOST_LIVE = 2000


@dataclass
class _Capture:
    """The gradient of a loss on a synthetic batch, with its graph.

    Attributes:
        gradients: One tensor per parameter.
        by: Weak references to the tensors that the loss was differentiated by.
        leaf: Whether these are a network's parameters and not the results of inner steps.
        norm: The gradient's L2 norm, a scalar.
    """

    gradients: list[Tensor]
    by: list[TensorWeakRef]
    leaf: bool
    norm: Tensor

    @property
    def first(self) -> Tensor | None:
        """The first tensor that the loss was differentiated by; None if it no longer exists."""
        first: Tensor | None = self.by[0]()
        return first

    def is_by_any(self, tensors: Sequence[Tensor]) -> bool:
        """Returns whether the loss was differentiated by one of these very tensors."""
        return any(ref() is tensor for ref in self.by for tensor in tensors)

    @property
    def profile(self) -> str:
        """The profile that fits a loop with this gradient, if the loop calls ``backward``."""
        return "'gm'" if self.leaf else "'tm'"


class Correction(ABC):
    """The base of the corrections, which differ in where the term goes in.

    Args:
        term: The term that is added, with its strength.
        complain: Called with a sentence on what is wrong; raises if the injection is strict.
        steps: A list to which corrected image steps are appended.
    """

    def __init__(self, term: Term, complain: Callable[[str], None], steps: list[Step]) -> None:
        self._term = term
        self._strength = term.strength
        self._before_measures = term.strength.state_dict()
        self._complain = complain
        self._steps = steps
        self._iteration = -1

    @property
    def active(self) -> bool:
        """Whether the correction changes the loop; with lam 0 it only observes."""
        return self._strength.active

    def begin(self) -> None:
        """Starts schedules and measures again, because new images have got an optimiser."""
        self._iteration = -1
        self._strength.load_state_dict(self._before_measures)

    def capture(
        self, inputs: Sequence[Tensor], gradients: Sequence[Tensor], loss_scale: Tensor | None
    ) -> None:
        """Records that the loop has computed a synthetic batch's gradient with its graph.

        Args:
            inputs: The tensors that the loss was differentiated by, at least one.
            gradients: One gradient for each input.
            loss_scale: The factor by which mixed precision scaled the loss; None for 1.
        """
        with torch.set_grad_enabled(self.active):
            norm = gradient_norm(gradients)
            norm = norm if loss_scale is None else norm / loss_scale
        by = [TensorWeakRef(t) for t in inputs]
        self._note(_Capture(list(gradients), by, all(t.is_leaf for t in inputs), norm))

    @abstractmethod
    def plain_gradient(self, asked: BackwardPass, inputs: Sequence[Tensor]) -> Tensor | None:
        """Handles a request for the roots' gradient by the inputs, without a graph.

        Returns:
            A scalar to differentiate along with the roots; None for nothing.
        """

    @abstractmethod
    def backward(self, asked: BackwardPass) -> Tensor | None:
        """Handles the beginning of a backward pass from losses, which are its roots.

        Returns:
            A scalar to differentiate along with the losses; None for nothing.
        """

    @abstractmethod
    def left_over(self) -> str | None:
        """Says what is still pending at an optimiser step; returns None if nothing is."""

    @abstractmethod
    def drop(self) -> None:
        """Forgets the captured gradients."""

    @abstractmethod
    def _note(self, capture: _Capture) -> None: ...

    def _add(
        self, measure: Measure, asked: BackwardPass, captures: Sequence[_Capture], of: int
    ) -> bool:
        """Adds a pass to a measure; returns whether it could be measured."""
        term = self._term.at_one([c.norm for c in captures], of)
        weights = [w for c in captures for ref in c.by if (w := ref()) is not None]
        wrong = measure.add(asked, term, weights)
        if wrong is not None and self._strength.follows_share:
            self._complain(f"the share cannot be measured, since {wrong}: pass `lam` instead")
        return wrong is None

    def _finish(self, norms: Sequence[Tensor], matching: float, lam: float) -> None:
        """Records an image step that was corrected with a lam."""
        difficulty = float(torch.stack([n.detach() for n in norms]).mean())
        share, cosine = self._strength.share_of(lam), self._strength.cosine
        values = (difficulty, matching, share, cosine)
        self._steps.append(Step(self._iteration, lam, len(norms), *values))
        self._strength.count()


class BackwardCorrection(Correction):
    """Loops that call ``backward`` on a matching loss: DC, DSA, DCC, MTT, FTD, DATM."""

    def __init__(
        self,
        term: Term,
        complain: Callable[[str], None],
        steps: list[Step],
        *,
        trajectories: bool,
    ) -> None:
        super().__init__(term, complain, steps)
        self._trajectories = trajectories
        self._live: list[_Capture] = []
        self._by_hand = 0
        self._network: TensorWeakRef | None = None

    def begin(self) -> None:
        """Starts schedules and measures again, and takes the next network for a new one."""
        super().begin()
        self._network = None

    def plain_gradient(self, asked: BackwardPass, inputs: Sequence[Tensor]) -> Tensor | None:
        """Corrects a loss that is differentiated by ``torch.autograd.grad`` like a backward pass.

        A loss that depends on only some of the captured gradients is one of TESLA's steps, which
        is reported as the wrong profile.
        """
        if not self._live or not any(t.ndim > 2 for t in inputs):
            return None
        used = self._used_by(asked.roots)
        if not any(used):
            return None
        self._by_hand += 1
        if not all(used) or (self._trajectories and self._by_hand > 1):
            self._complain(
                f"the script computes image gradients by hand, step by step, from {sum(used)} of "
                f"{len(used)} captured gradients: use the profile 'tesla'"
            )
            self.drop()
            return None
        return self._correct(self._live, asked)

    def backward(self, asked: BackwardPass) -> Tensor | None:
        """Returns the term for the captured gradients that the losses depend on, if any."""
        used = self._used_by(asked.roots)
        if not any(used):  # a loss that has nothing to do with matching
            return None
        return self._correct(
            [c for c, is_used in zip(self._live, used, strict=True) if is_used], asked
        )

    def left_over(self) -> str | None:
        """Says how many captured gradients no backward pass has used."""
        self._by_hand = 0
        if not self._live:
            return None
        better = "'tesla'" if self._trajectories else "'tm' or 'tesla'"
        return f"no backward pass has used {len(self._live)} of them: use the profile {better}"

    def drop(self) -> None:
        """Forgets the gradients that wait for a backward pass."""
        self._live = []

    def _note(self, capture: _Capture) -> None:
        self._live.append(capture)
        if len(self._live) > _MOST_LIVE:
            self._complain(
                f"{len(self._live)} gradients with their graphs wait for a backward pass that "
                "does not come: use the profile 'tesla' if the script computes image gradients "
                "by hand"
            )
            self.drop()

    def _used_by(self, outputs: Sequence[Tensor]) -> list[bool]:
        """Returns for each captured gradient whether the outputs depend on it."""
        return depends_on(outputs, [{g.grad_fn for g in c.gradients} for c in self._live])

    def _correct(self, captures: Sequence[_Capture], asked: BackwardPass) -> Tensor | None:
        self.drop()
        self._check_profile(captures)
        self._count_iteration(captures[0].first)
        self._strength.set_lam(self._iteration)
        measure, of = Measure(), len(captures)
        if self._strength.measures and self._add(measure, asked, captures, of):
            self._strength.note(measure.pull, self._iteration)
        norms, lam = [c.norm for c in captures], self._strength.lam
        self._finish(norms, float(asked.roots[0].detach()), lam)
        return self._term.at(lam, norms, of)

    def _count_iteration(self, network: Tensor | None) -> None:
        """Counts every trajectory as an iteration, or else every new network."""
        seen = None if self._network is None else self._network()
        if self._trajectories or network is None or network is not seen:
            self._iteration += 1
            self._network = None if network is None else TensorWeakRef(network)

    def _check_profile(self, captures: Sequence[_Capture]) -> None:
        network = captures[0].first
        same = network is not None and all(c.is_by_any([network]) for c in captures)
        if not self._trajectories and not all(c.leaf for c in captures):
            self._complain(
                "the captured gradients belong to the steps of a trajectory, not to a network's "
                "parameters: use the profile 'tm'"
            )
        elif not self._trajectories and not same:
            self._complain(
                f"the {len(captures)} captured gradients belong to different parameters: use the "
                "profile 'tm' if they are the steps of a trajectory, or switch strict off if they "
                "belong to several networks"
            )
        elif self._trajectories and captures[0].leaf and same and len(captures) > 1:
            self._complain(
                f"all {len(captures)} captured gradients belong to the same parameters, so they "
                "are not steps of a trajectory: use the profile 'gm'"
            )


class StepwiseCorrection(Correction):
    """Loops that never call ``backward`` and compute image gradients step by step: TESLA.

    TESLA's loss is ``||theta_0 - lr * sum_n g_n - theta*||^2``, relative to the expert's own
    distance. A first pass over all inner steps computes the sum. A second pass asks at every step
    n for g_n with its graph, and then for the image gradient of a product of g_n with a constant
    made from that sum. The correction ``lam / N * sum_n ||g_n||`` is a sum over steps, too, so
    each of these products gets the term of its own step, ``lam / N * ||g_n||``.

    A measure, too, is a sum over steps and complete at the last of them. So lam follows from a
    share with the next image step, and the very first one is measured without a correction.

    Reference: Cui et al., "Scaling Up Dataset Distillation to ImageNet-1K with Constant Memory",
    Section 3; the SDC paper, Eq. 12.
    """

    def __init__(self, term: Term, complain: Callable[[str], None], steps: list[Step]) -> None:
        super().__init__(term, complain, steps)
        # How many gradients the loop has asked for, by the shape of the tensor it differentiates
        # by. For the shape of the parameters, the first pass thus counts the inner steps N,
        # whether it keeps graphs or not; gradients by the learning rate have another shape.
        self._asked: Counter[torch.Size] = Counter()
        self._latest: _Capture | None = None
        self._norms: list[Tensor] = []
        self._expected = 0
        self._measure: Measure | None = None

    def plain_gradient(self, asked: BackwardPass, inputs: Sequence[Tensor]) -> Tensor | None:
        """Counts the first pass's steps; returns the step's term for an image gradient."""
        capture = self._latest
        # Only inputs of more than two dimensions can be images: flat parameters, the learning
        # rate and labels have fewer. So this is a step of the first pass, or what the second pass
        # asks for besides image gradients.
        if capture is None or not any(t.ndim > 2 for t in inputs):
            self._asked[inputs[0].shape] += 1
            return None
        # A product of the second pass contains g_n. Anything else is not part of the matching
        # loss, so that correcting it would add the term to an unrelated gradient.
        if not any(depends_on(asked.roots, [{g.grad_fn for g in capture.gradients}])):
            return None
        # The mean over N norms needs N at the first of them already. So N is read off the first
        # pass when the second one begins.
        if not self._norms:
            self._begin_second_pass(capture)
        # Convolution weights have more than two dimensions, too. A gradient by the network's own
        # parameters, or one without a first pass before it, belongs to another kind of loop, for
        # which N is unknown.
        if capture.is_by_any(inputs) or self._expected < 1:
            self._complain(
                "no first pass of inner steps came before the first image gradient, so the loop "
                f"is not TESLA's: use the profile {capture.profile}"
            )
            self.drop()
            return None
        return self._correct(capture, asked)

    def _correct(self, capture: _Capture, asked: BackwardPass) -> Tensor | None:
        """Returns the term of an inner step; measures and records what the last one completes."""
        # Each captured gradient is used once: a second product with it would add the step's term
        # again. The norm is detached for the record, so that only one step's graph is alive at a
        # time, which is what TESLA's two passes are for.
        self._latest = None
        self._norms.append(capture.norm.detach())
        of, lam = self._expected, self._strength.lam
        if self._measure is not None and not self._add(self._measure, asked, [capture], of):
            self._measure = None
        if len(self._norms) == of:
            if self._measure is not None:
                self._strength.note(self._measure.pull, self._iteration)
            self._finish(self._norms, math.nan, lam)
            self.drop()
        return self._term.at(lam, [capture.norm], of)

    def backward(self, asked: BackwardPass) -> Tensor | None:
        """Reports the wrong profile if a captured gradient waits; never corrects."""
        capture = self._latest
        if capture is not None:
            self._complain(
                "the script calls backward on its loss instead of computing image gradients by "
                f"hand: use the profile {capture.profile}"
            )
            self.drop()
        return None

    def left_over(self) -> str | None:
        """Says that a second pass is incomplete, or has not begun."""
        if self._norms:
            return f"{self._expected} image gradients were expected, {len(self._norms)} came"
        if self._latest is not None:
            return f"no image gradient was asked for: use the profile {self._latest.profile}"
        return None

    def drop(self) -> None:
        """Forgets both passes."""
        self._asked.clear()
        self._latest, self._norms, self._measure = None, [], None

    def _note(self, capture: _Capture) -> None:
        self._latest = capture
        by = capture.first
        if by is not None:
            self._asked[by.shape] += 1

    def _begin_second_pass(self, capture: _Capture) -> None:
        by = capture.first
        # The count includes the second pass's first captured gradient.
        self._expected = 0 if by is None else self._asked[by.shape] - 1
        self._iteration += 1
        self._strength.set_lam(self._iteration)
        self._measure = Measure() if self._strength.measures else None

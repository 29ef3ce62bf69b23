"""Corrects loops that compute image gradients by hand, inner step by inner step, as TESLA does."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.weak import TensorWeakRef

from sdc_ext._graphs import depends_on
from sdc_ext.injection.captures import Capture, learnt_by
from sdc_ext.injection.corrections import Correction, ImageStep
from sdc_ext.injection.learnt import Roles
from sdc_ext.injection.measures import BackwardPass
from sdc_ext.injection.record import Step
from sdc_ext.injection.term import Term


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

    def __init__(
        self, term: Term, complain: Callable[[str], None], steps: list[Step], roles: Roles
    ) -> None:
        super().__init__(term, complain, steps, roles)
        # How many gradients the loop has asked for, by the shape of the tensor it differentiates
        # by. For the shape of the parameters, the first pass thus counts the inner steps N,
        # whether it keeps graphs or not; gradients by the learning rate have another shape.
        self._asked: Counter[torch.Size] = Counter()
        self._latest: Capture | None = None
        self._norms: list[Tensor] = []
        self._expected = 0
        self._step: ImageStep | None = None  # that of the second pass in progress
        # What was learnt when the image step began, each with its gradient at that time.
        self._before: list[tuple[TensorWeakRef, TensorWeakRef | None]] = []
        self._lam = 0.0

    def plain_gradient(self, asked: BackwardPass, inputs: Sequence[Tensor]) -> Tensor | None:
        """Counts the first pass's steps; returns the step's term for an image gradient."""
        capture = self._latest
        # A product of the second pass contains g_n. Anything else is a step of the first pass, or
        # not part of the matching loss, so that correcting it would add the term to an unrelated
        # gradient.
        if capture is None or not any(depends_on(asked.roots, [capture.nodes])):
            self._asked[inputs[0].shape] += 1
            return None
        counting, learnt = learnt_by(self._roles, [capture], inputs, asked=True)
        if not counting or any(t is s for s in capture.served for t in inputs):
            return None
        if not capture.served:
            return self._correct(capture, learnt, asked)
        # Labels and images may be asked for one after the other.
        capture.served += learnt
        return self._term.at(self._lam, [capture.norm], self._expected)

    def _correct(
        self, capture: Capture, learnt: Sequence[Tensor], asked: BackwardPass
    ) -> Tensor | None:
        """Returns the term of an inner step; measures and records what the last one completes."""
        # The mean over N norms needs N at the first of them already. So N is read off the first
        # pass when the second one begins.
        step = self._step or self._begin_second_pass(capture, learnt)
        # Without a first pass before it, a gradient belongs to another kind of loop, for which N
        # is unknown.
        if self._expected < 1:
            self._complain(
                "no first pass of inner steps came before the first image gradient, so the loop "
                f"is not TESLA's: use the profile {capture.profile}"
            )
            self.drop()
            return None
        # Each captured gradient is used once: a second product with it would add the step's term
        # again. The norm is detached for the record, so that only one step's graph is alive at a
        # time, which is what TESLA's two passes are for.
        capture.served += learnt
        self._norms.append(capture.norm.detach())
        self._measure(step, asked, [capture], self._expected)
        if len(self._norms) == self._expected:
            self._note_measure(step)
            self._record(step, self._norms, math.nan)
            self._end_second_pass()
        return self._term.at(step.lam, [capture.norm], self._expected)

    def backward(self, asked: BackwardPass) -> Tensor | None:
        """Reports the wrong profile if a captured gradient waits; never corrects."""
        capture = self._latest
        if capture is not None and not capture.served:
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
        if self._latest is not None and not self._latest.served:
            return f"no image gradient was asked for: use the profile {self._latest.profile}"
        return None

    def end_step(self) -> None:
        """Notes that an image step has ended."""
        super().end_step()
        if self._latest is not None and self._latest.served and self._step is None:
            self._latest = None

    def drop(self) -> None:
        """Forgets both passes."""
        self._end_second_pass()
        self._latest = None

    def _note(self, capture: Capture) -> None:
        self._latest = capture
        by = capture.first
        if by is not None:
            self._asked[by.shape] += 1

    def _begin_second_pass(self, capture: Capture, learnt: Sequence[Tensor]) -> ImageStep:
        by = capture.first
        # The count includes the second pass's first captured gradient.
        self._expected = 0 if by is None else self._asked[by.shape] - 1
        updated = self._roles.updated(learnt)
        # A loop that assigns the sum of its image gradients has ended an image step with it, even
        # if it then leaves out the optimiser's step.
        if any(t.grad is not before for t, before in self._gradients()):
            self._open = None
        step = self._open or self._begin_step(updated, by)
        if self._open is None and updated:
            self._open = step
            self._before = [(TensorWeakRef(t), _weak(t.grad)) for t in updated]
        self._roles.note_learnt([*learnt, *updated])
        self._step, self._lam = step, step.lam
        return step

    def _end_second_pass(self) -> None:
        self._asked.clear()
        self._norms, self._step = [], None

    def _gradients(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Yields what is learnt with its gradient at the beginning of the image step."""
        for learnt, gradient in self._before:
            tensor = learnt()
            if tensor is not None:
                yield tensor, None if gradient is None else gradient()

    def _count_iteration(self, network: Tensor | None) -> None:
        self._iteration += 1


def _weak(tensor: Tensor | None) -> TensorWeakRef | None:
    return None if tensor is None else TensorWeakRef(tensor)

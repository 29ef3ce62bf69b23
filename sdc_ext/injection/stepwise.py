"""Corrects loops that compute image gradients by hand, inner step by inner step, as TESLA does."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.weak import TensorWeakRef

from sdc_ext._graphs import depends_on
from sdc_ext.injection.captures import (
    NO_PROFILE,
    Capture,
    Released,
    advice,
    learnt_by,
    of_one_network,
)
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

    An image step may have several networks: one after the other, or step by step side by side, in
    a product for each of them or for all. The mean is over the inner steps that a product stands
    for, i.e. over those of one network, or of all networks if their losses are one product.

    A loop that back-propagates through its unrolled steps by hand has no second pass: it asks for
    the gradients of the g_n themselves, last step first, by the images and by the step's weights.
    With the term of each step, the latter carry the correction through the earlier steps.

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
        self._captured: Counter[torch.Size] = Counter()
        self._has_turned = False
        self._latest: Capture | None = None
        self._earlier: list[Released] = []
        self._served: list[Capture] = []  # those that the last products have used
        self._norms: list[Tensor] = []
        # How many inner steps the second pass has, and how many networks, by the same shapes.
        self._plan: dict[torch.Size, tuple[int, int]] = {}
        self._step: ImageStep | None = None  # that of the second pass in progress
        # What was learnt when the image step began, each with its gradient at that time.
        self._before: list[tuple[TensorWeakRef, TensorWeakRef | None]] = []
        self._lam, self._of = 0.0, 0

    def plain_gradient(self, asked: BackwardPass, inputs: Sequence[Tensor]) -> Tensor | None:
        """Counts the first pass's steps; returns the step's term for an image gradient."""
        waiting = self._waiting()
        captures = [*self._served, *waiting]
        flags = depends_on(asked.roots, [c.nodes for c in captures])
        used = [c for c, is_used in zip(captures, flags, strict=True) if is_used]
        # A product of the second pass contains g_n. Anything else is a step of the first pass, or
        # not part of the matching loss, so that correcting it would add the term to an unrelated
        # gradient.
        if not used:
            self._asked[inputs[0].shape] += 1
            self._has_turned |= self._latest is not None
            return None
        counting, learnt = learnt_by(self._roles, used, inputs)
        # Each captured gradient is used once: a second product with it would add the step's term
        # again. But labels and images may be asked for one after the other.
        new = [c for c in counting if not any(t is s for s in c.served for t in inputs)]
        if not new:
            return None
        if any(c.served for c in new):
            for capture in new:
                capture.served += learnt
            self._roles.note_learnt(learnt)
            return self._term.at(self._lam, [c.norm for c in new], self._of)
        return self._correct(new, waiting, learnt, asked)

    def _correct(
        self,
        captures: Sequence[Capture],
        waiting: Sequence[Capture],
        learnt: Sequence[Tensor],
        asked: BackwardPass,
    ) -> Tensor | None:
        """Returns the term of an inner step; measures and records what the last one completes."""
        # The mean over N norms needs N at the first of them already. So N is read off the first
        # pass when the second one begins.
        step = self._step or self._begin_second_pass(captures, waiting, learnt)
        # Without a first pass before it, a gradient belongs to another kind of loop, for which N
        # is unknown.
        if self._expected < 1:
            self._complain(
                "no first pass of inner steps came before the first image gradient, so the loop "
                f"is not TESLA's: {self._advice([*captures, *waiting], len(captures) > 1)}"
            )
            self.drop()
            return None
        self._serve(captures, learnt)
        # The norm is detached for the record, so that only one step's graph is alive at a time,
        # which is what TESLA's two passes are for.
        norms = [c.norm for c in captures]
        self._norms += [n.detach() for n in norms]
        self._of = max(self._share_of_plan(captures), len(captures))
        self._measure(step, asked, captures, self._of)
        if len(self._norms) == self._expected:
            self._note_measure(step)
            self._record(step, self._norms, math.nan)
            self._end_second_pass()
        return self._term.at(step.lam, norms, self._of)

    def _waiting(self) -> list[Capture]:
        """Returns the captured gradients that no product has used, in their order."""
        recalled = [(r, r.recalled()) for r in self._earlier]
        self._earlier = [r for r, capture in recalled if capture is not None]
        found = [capture for _, capture in recalled if capture is not None]
        return found if self._latest is None else [*found, self._latest]

    def _serve(self, captures: Sequence[Capture], learnt: Sequence[Tensor]) -> None:
        """Notes that the term of gradients has been asked for by learnt tensors."""
        for capture in captures:
            capture.served += learnt
            if capture is self._latest:
                self._latest = None
        self._served += captures
        used = {id(g) for capture in captures for g in capture.gradients}
        self._earlier = [r for r in self._earlier if not r.holds(used)]

    def _share_of_plan(self, captures: Sequence[Capture]) -> int:
        """Returns how many inner steps the product stands for."""
        networks = Counter(w.shape for c in captures if (w := c.first) is not None)
        plan = ((self._plan.get(shape, (0, 1)), count) for shape, count in networks.items())
        return sum(steps * count // of for (steps, of), count in plan)

    def backward(self, asked: BackwardPass) -> Tensor | None:
        """Reports the wrong profile if a captured gradient waits; never corrects."""
        capture = self._latest
        self._has_turned |= capture is not None
        if capture is not None and any(depends_on(asked.roots, [capture.nodes])):
            self._complain(
                "the script calls backward on its loss instead of computing image gradients by "
                f"hand: {self._advice([capture], joint=True)}"
            )
            self.drop()
        return None

    def left_over(self) -> str | None:
        """Says that a second pass is incomplete, or has not begun."""
        if self._norms:
            # Gradients by the results of inner steps are differentiated together with these.
            joint = not all(capture.leaf for capture in self._served)
            return (
                f"{self._expected} image gradients were expected, {len(self._norms)} came: "
                f"{self._advice(self._served, joint)}"
            )
        if self._latest is not None:
            return f"no image gradient was asked for: {NO_PROFILE}"
        return None

    def _advice(self, captures: Sequence[Capture], joint: bool) -> str:
        return advice(one_network=of_one_network(captures), joint=joint)

    def end_step(self) -> None:
        """Notes that an image step has ended."""
        super().end_step()
        self._served = []

    def drop(self) -> None:
        """Forgets both passes."""
        self._end_second_pass()
        self._latest, self._earlier, self._served = None, [], []

    def _note(self, capture: Capture) -> None:
        # A first pass throws its gradients away, and keeps no graphs.
        if self._latest is not None:
            self._earlier.append(Released(self._latest))
        self._latest, self._served, self._has_turned = capture, [], False
        by = capture.first
        if by is not None:
            self._asked[by.shape] += 1
            self._captured[by.shape] += 1

    @property
    def _expected(self) -> int:
        return sum(steps for steps, _ in self._plan.values())

    def _begin_second_pass(
        self, captures: Sequence[Capture], waiting: Sequence[Capture], learnt: Sequence[Tensor]
    ) -> ImageStep:
        # What has been captured since the first gradient in use belongs to this pass, too.
        since = next(k for k, c in enumerate(waiting) if c is captures[0])
        networks = Counter(w.shape for c in waiting[since:] if (w := c.first) is not None)
        self._plan = {s: (self._asked[s] - count, count) for s, count in networks.items()}
        # The gradient of the loss itself comes between the steps and the way back through them.
        if self._has_turned:
            self._plan = {shape: (self._captured[shape], 1) for shape in networks}
        updated = self._roles.updated(learnt)
        # A loop that assigns the sum of its image gradients has ended an image step with it, even
        # if it then leaves out the optimiser's step.
        if any(t.grad is not before for t, before in self._gradients()):
            self._open = None
        step = self._open or self._begin_step(updated, captures[0].first)
        if self._open is None and updated:
            self._open = step
            self._before = [(TensorWeakRef(t), _weak(t.grad)) for t in updated]
        self._roles.note_learnt(learnt)
        self._step, self._lam = step, step.lam
        return step

    def _end_second_pass(self) -> None:
        self._asked.clear()
        self._captured.clear()
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

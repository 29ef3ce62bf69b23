"""Corrects loops that differentiate a matching loss, as those of DC and MTT do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torch.utils.weak import TensorWeakRef, WeakIdKeyDictionary

from sdc_ext._graphs import depends_on
from sdc_ext._words import number_of
from sdc_ext.injection.captures import NO_PROFILE, Capture, advice, learnt_by, of_one_network
from sdc_ext.injection.corrections import Correction, ImageStep
from sdc_ext.injection.learnt import Roles
from sdc_ext.injection.measures import BackwardPass
from sdc_ext.injection.record import Step
from sdc_ext.injection.term import Term
from sdc_ext.injection.waiting import Waiting

# The last resort against a loop that never calls backward. Loops that do keep one gradient per
# class (200 for Tiny ImageNet) or one per inner step (about 100).
_MOST_LIVE = 2000


class BackwardCorrection(Correction):
    """Loops that differentiate a matching loss: DC, DSA, DCC, MTT, FTD, DATM."""

    def __init__(
        self,
        term: Term,
        complain: Callable[[str], None],
        steps: list[Step],
        roles: Roles,
        *,
        trajectories: bool,
    ) -> None:
        super().__init__(term, complain, steps, roles)
        self._trajectories = trajectories
        self._live: Waiting[Capture] = Waiting()
        self._partial: ImageStep | None = None  # that of a pass by some tensors only
        self._alone: TensorWeakRef | None = None  # the weights of a gradient used alone before
        # Weights of gradients without a graph, each with what was used alone before it.
        self._asked: Any = WeakIdKeyDictionary()
        self._network: TensorWeakRef | None = None

    def begin(self) -> None:
        """Starts schedules and measures again, and takes the next network for a new one."""
        super().begin()
        self._network = None

    def end_step(self) -> None:
        """Notes that an image step has ended."""
        super().end_step()
        self._alone = None
        self._asked.clear()
        self._partial = None

    def plain_gradient(self, asked: BackwardPass, inputs: Sequence[Tensor]) -> Tensor | None:
        """Corrects a loss that is differentiated by ``torch.autograd.grad`` like a backward pass.

        A loss that depends on one of several inner steps is one of TESLA's steps, which is
        reported as the wrong profile.
        """
        self._asked[inputs[0]] = self._alone
        if all(map(self._roles.is_weight, inputs)):  # such as the gradients of real images
            return None
        used, learnt = self._used_by(asked)
        if not used:
            return self._again(asked)
        if len(used) == 1 and self._are_steps_by_hand(used[0]):
            self.drop()
            return None
        return self._correct(used, learnt, asked)

    def _are_steps_by_hand(self, capture: Capture) -> bool:
        """Complains if a gradient that is used alone is one of several inner steps'."""
        seen = [capture, *self._live]
        weights = capture.first
        before, self._alone = self._alone, None if weights is None else TensorWeakRef(weights)
        moved = before is not None and before() is not weights and not capture.of_module
        # A first pass goes through all steps before an image gradient is taken by one of them.
        known = weights is not None and self._asked.get(weights, before) is not before
        steps_known = len(seen) > 1 or known
        # Without an optimiser, every pass is an image step, which may have one inner step.
        again = self._trajectories and before is not None and self._open is not None
        if not (again or (moved and steps_known) or (len(seen) > 1 and not self._fits(seen))):
            return False
        one_network = of_one_network(seen) and not moved
        self._complain(
            "the script computes image gradients by hand, step by step, from 1 of "
            f"{number_of(len(seen), 'captured gradient')}: "
            f"{advice(one_network=one_network, joint=False, steps_known=steps_known)}"
        )
        return True

    def backward(self, asked: BackwardPass) -> Tensor | None:
        """Returns the term for the captured gradients that the losses depend on, if any."""
        used, learnt = self._used_by(asked)
        if not used:  # a loss that has nothing to do with matching
            return self._again(asked)
        return self._correct(used, learnt, asked)

    def left_over(self) -> str | None:
        """Says how many captured gradients no backward pass has used.

        Beside gradients that a pass of this image step has used, others do not count: a loss may
        depend on some inner steps only.
        """
        if self._open is not None:
            self._release()
        if self._live.are_late or not self._live:
            return None
        return f"no backward pass has used any of {len(self._live)}: {NO_PROFILE}"

    def drop(self) -> None:
        """Forgets the gradients that wait for a backward pass."""
        self._live.drop()
        self._partial = None

    def _release(self) -> None:
        """Lets go of waiting gradients with the next one that comes."""
        self._live.release()

    def _note(self, capture: Capture) -> None:
        if self._live.are_late:
            self.drop()
        self._live.append(capture)
        if len(self._live) > _MOST_LIVE:
            self._complain(
                f"{len(self._live)} gradients with their graphs wait for a backward pass that "
                f"does not come: {NO_PROFILE}"
            )
            self.drop()

    def _used_by(self, asked: BackwardPass) -> tuple[list[Capture], list[Tensor]]:
        """Takes the captured gradients that the roots depend on; returns what they flow to, too."""
        if not self._live:
            return [], []
        flags = depends_on(asked.roots, [c.nodes for c in self._live])
        used = [c.used_by(asked.roots) for c, f in zip(self._live, flags, strict=True) if f]
        if not used:
            return [], []
        self._live[:] = [c for c, is_used in zip(self._live, flags, strict=True) if not is_used]
        # What does not count is such as the penalty on the gradient by a batch.
        return learnt_by(self._roles, used, asked.inputs)

    def _again(self, asked: BackwardPass) -> Tensor | None:
        """Returns the term of gradients already used, for tensors that have not got it yet."""
        step = self._partial
        if step is None or asked.inputs is None:
            return None
        used = step.captures
        if any(t is s for c in used for s in c.served for t in asked.inputs):
            return None
        if not all(depends_on(asked.roots, [c.nodes for c in used])):
            return None
        for capture in used:
            capture.served += asked.inputs
        self._roles.note_learnt(asked.inputs)
        return self._term.at(step.lam, [c.norm for c in used], len(used))

    def _correct(
        self, captures: Sequence[Capture], learnt: Sequence[Tensor], asked: BackwardPass
    ) -> Tensor | None:
        updated = self._roles.updated(learnt)
        # A loop may ask for the gradients by labels and by images one after the other.
        steps = bool(updated or (asked.inputs is not None and self._roles.updated(asked.roots)))
        if not steps:  # only an optimiser's step would say that no other loss uses the rest
            self._release()
        step = self._open
        if step is None:
            self._check_profile(captures)
            step = self._begin_step(updated, captures[0].first)
        self._roles.note_learnt(learnt)
        of = len(captures)
        self._measure(step, asked, captures, of)
        self._note_measure(step)
        if not step.passes:
            step.lam = self._strength.lam
        norms = [c.norm for c in captures]
        self._record(step, norms, asked.value)
        if steps:
            self._open = step
        if asked.inputs is not None:
            self._partial, step.captures = step, captures
            for capture in captures:
                capture.served += asked.inputs
        return self._term.at(step.lam, norms, of)

    def _count_iteration(self, network: Tensor | None) -> None:
        """Counts every trajectory as an iteration, or else every new network."""
        seen = None if self._network is None else self._network()
        if self._trajectories or network is None or network is not seen:
            self._iteration += 1
            self._network = None if network is None else TensorWeakRef(network)

    def _fits(self, captures: Sequence[Capture]) -> bool:
        """Returns whether gradients are what the profile expects: a network's, or inner steps'."""
        if self._trajectories:
            return len(captures) == 1 or not of_one_network(captures)
        # Several networks may be matched side by side.
        return of_one_network(captures) or all(c.leaf and c.of_module for c in captures)

    def _check_profile(self, captures: Sequence[Capture]) -> None:
        if not self._fits(captures):
            whose = "one network" if self._trajectories else "the steps of a trajectory"
            self._complain(
                f"the captured gradients ({len(captures)}) belong to {whose}: "
                f"{advice(one_network=of_one_network(captures), joint=True)}"
            )

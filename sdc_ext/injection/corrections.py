"""Decides where and how strongly an unmodified loop is corrected: what all kinds of loops share.

A correction sees what the loop asks of autograd, in order, through three calls: ``capture`` for a
gradient with a graph, ``plain_gradient`` for one without, ``backward`` for a backward pass. It does
not know how these calls were intercepted.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.utils.weak import TensorWeakRef

from sdc_ext._graphs import leaves_of
from sdc_ext.injection.captures import Capture, joint
from sdc_ext.injection.learnt import By, Roles
from sdc_ext.injection.measures import BackwardPass, Measure
from sdc_ext.injection.patches import Patches
from sdc_ext.injection.record import Step
from sdc_ext.injection.term import Term

# Loops update images up to 100 times with a network (IDC).
_MOST_AT_FIRST = 200


@dataclass
class ImageStep:
    """What the backward passes of an image step share and add up to.

    Attributes:
        lam: The weight of the term in all of them.
        measure: The measure of the share; None if this step is not measured.
        before: The state of the strength before the measure.
        norms: The norms of the captured gradients so far.
        matching: The sum of the losses so far.
        passes: The number of passes so far.
        captures: What the last pass used that asked for gradients by some tensors only.
    """

    lam: float
    measure: Measure | None
    before: dict[str, float]
    norms: list[Tensor] = field(default_factory=list)
    matching: float = 0.0
    passes: int = 0
    captures: Sequence[Capture] = ()


class Correction(ABC):
    """The base of the corrections, which differ in where the term goes in.

    An image step lasts until the optimiser of what is learnt makes its step, or clears its
    gradients, however many backward passes that takes. Where no optimiser is known, every pass is
    an image step.

    Args:
        term: The term that is added, with its strength.
        complain: Called with a sentence on what is wrong; raises if the injection is strict.
        steps: A list to which corrected image steps are appended.
        roles: What is learnt, and what are weights.
    """

    def __init__(
        self, term: Term, complain: Callable[[str], None], steps: list[Step], roles: Roles
    ) -> None:
        self._term = term
        self._strength = term.strength
        self._before_measures = term.strength.state_dict()
        self._complain = complain
        self._steps = steps
        self._roles = roles
        self._iteration = -1
        self._at_first = 0  # the number of the latest image steps, as far as all are iteration 0
        self._open: ImageStep | None = None

    @property
    def active(self) -> bool:
        """Whether the correction changes the loop; with lam 0 it only observes."""
        return self._strength.active

    def watch(self, patches: Patches) -> None:
        """Observes what the correction needs beside autograd, until the patches are undone."""
        return  # most need nothing

    def begin(self) -> None:
        """Starts schedules and measures again, because new images have got an optimiser."""
        self._iteration = -1
        self._strength.load_state_dict(self._before_measures)

    def end_step(self) -> None:
        """Notes that an image step has ended."""
        self._open = None

    def capture(
        self,
        asked: BackwardPass,
        inputs: Sequence[Tensor],
        gradients: Sequence[Tensor],
        *,
        used_only: bool = False,
    ) -> None:
        """Records that the loop has computed a gradient with its graph, if it is by weights.

        Args:
            asked: The pass that computed the gradient.
            inputs: The tensors that the loss was differentiated by, at least one.
            gradients: One gradient for each input.
            used_only: Whether these are all leaves, and only gradients count that a loss uses.
        """
        role = By.OTHERS if used_only else By.of(inputs, asked.roots)
        if role is By.WEIGHTS:
            self._roles.note_weights(inputs)
        known = {id(tensor) for tensor in inputs}
        if not used_only and not any(
            id(leaf) not in known and self._roles.may_be_learnt(leaf, role)
            for leaf in leaves_of(gradients)
        ):
            return
        by = [TensorWeakRef(t) for t in inputs]
        leaf = all(t.is_leaf for t in inputs)
        factor, graph = asked.factor, self.active
        self._note(Capture(list(gradients), by, leaf, role, factor, graph, used_only))

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
    def _note(self, capture: Capture) -> None: ...

    @abstractmethod
    def _count_iteration(self, network: Tensor | None) -> None:
        """Counts the outer iteration of an image step that begins."""

    def _begin_step(self, learnt: Sequence[Tensor], network: Tensor | None) -> ImageStep:
        """Starts an image step, and counts its iteration."""
        if self._roles.are_new(learnt):
            self.begin()
        self._count_iteration(network)
        self._at_first = 0 if self._iteration else self._at_first + 1
        if self._at_first == _MOST_AT_FIRST and self._strength.is_scheduled:
            sys.stderr.write(
                f"sdc-ext: {_MOST_AT_FIRST} image steps were iteration 0 of the schedule of lam or "
                "the share: it goes on with a new network for the profile gm and with every image "
                "step for others, and begins again when new images get an optimiser\n"
            )
        self._strength.set_lam(self._iteration)
        measure = Measure() if self._strength.measures else None
        return ImageStep(self._strength.lam, measure, self._strength.state_dict())

    def _measure(
        self, step: ImageStep, asked: BackwardPass, captures: Sequence[Capture], of: int
    ) -> None:
        """Adds a pass to the measure of a step, if there is one."""
        if step.measure is None:
            return
        term = self._term.at_one([c.norm for c in captures], of)
        wrong = step.measure.add(asked, term, self._images(asked, term, captures))
        if wrong is not None:
            step.measure = None
            if self._strength.follows_share:
                self._complain(f"the share cannot be measured, since {wrong}: pass `lam` instead")

    def _images(
        self, asked: BackwardPass, term: Tensor, captures: Sequence[Capture]
    ) -> list[Tensor]:
        """Returns the leaves of a term by which its share is measured."""
        learnt = self._roles.learnt([*leaves_of([term])], *joint(captures), asked=False)
        return self._roles.images(learnt or list(asked.inputs or []))

    def _note_measure(self, step: ImageStep) -> None:
        """Takes the measure of the passes so far into account, in place of an earlier one."""
        if step.measure is not None:
            self._strength.load_state_dict(step.before)
            self._strength.note(step.measure.pull, self._iteration)

    def _record(self, step: ImageStep, norms: Sequence[Tensor], matching: float) -> None:
        """Records a pass of an image step: one row for all of its passes."""
        step.norms += [n.detach() for n in norms]
        step.matching += matching
        difficulty = float(torch.stack(step.norms).mean())
        share, cosine = self._strength.share_of(step.lam), self._strength.cosine
        values = (difficulty, step.matching, share, cosine)
        row = Step(self._iteration, step.lam, len(step.norms), *values)
        if step.passes:
            self._steps[-1] = row
        else:
            self._steps.append(row)
        if not step.passes or step.measure is not None:
            self._strength.count()
        step.passes += 1

"""Where and how strongly a foreign loop is corrected, one class a kind of loop.

They see what the loop asks of autograd, in order, through three calls: ``capture`` for a gradient
with a graph, ``plain_gradient`` for one without, ``backward`` for a backward pass. They know
nothing of how these calls were intercepted.
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

from sdc_ext.injection.graphs import depends_on
from sdc_ext.injection.record import Step
from sdc_ext.regularizer import (
    Norm,
    Reduction,
    Schedule,
    check_lam,
    gradient_norm,
    sdc_penalty,
)

# The last resort against a loop that never goes backward. Legitimate are one a class (200 of Tiny
# ImageNet) or one an inner step (about 100).
_MOST_LIVE = 2000


@dataclass(frozen=True)
class Strength:
    """How strongly to correct: lam or its schedule, the norm, how norms are reduced, a factor."""

    lam: float | Schedule
    norm: Norm
    reduction: Reduction
    scale: float

    @property
    def active(self) -> bool:
        """Whether the loop is changed at all."""
        return callable(self.lam) or self.lam > 0

    def lam_at(self, iteration: int) -> float:
        return check_lam(self.lam(iteration) if callable(self.lam) else self.lam)

    def term(self, norms: Sequence[Tensor], iteration: int, of: int) -> Tensor | None:
        """What to add for some of the ``of`` norms of an image step; None if there is no weight."""
        weight = self.scale * self.lam_at(iteration)
        if weight == 0:
            return None
        return sdc_penalty(norms, weight, norm=self.norm, reduction=self.reduction, of=of)


@dataclass
class _Capture:
    """A gradient of a synthetic batch (one tensor a parameter) that is still in graph.

    Attributes:
        gradients: its tensors.
        by: what they were taken with respect to; not kept alive.
        leaf: whether these are a network's parameters and not the result of inner steps.
        norm: its L2 norm, a scalar.
    """

    gradients: list[Tensor]
    by: list[TensorWeakRef]
    leaf: bool
    norm: Tensor

    @property
    def first(self) -> Tensor | None:
        first: Tensor | None = self.by[0]()
        return first

    def is_by_any(self, tensors: Sequence[Tensor]) -> bool:
        return any(ref() is tensor for ref in self.by for tensor in tensors)

    @property
    def profile(self) -> str:
        """The profile that it speaks for, if the loop goes backward."""
        return "'gm'" if self.leaf else "'tm'"


class Correction(ABC):
    """What the kinds of loops share.

    Args:
        strength: how strongly to correct.
        complain: called with what is wrong; raises if the injection is strict.
        steps: where corrected image steps are noted.
    """

    def __init__(
        self, strength: Strength, complain: Callable[[str], None], steps: list[Step]
    ) -> None:
        self.strength = strength
        self._complain = complain
        self._steps = steps
        self._iteration = -1

    def begin(self) -> None:
        """New synthetic images: schedules start again."""
        self._iteration = -1

    def capture(
        self, inputs: Sequence[Tensor], gradients: Sequence[Tensor], loss_scale: Tensor | None
    ) -> None:
        """The gradient of a synthetic batch was taken, and stays in graph.

        Args:
            inputs: with respect to what, at least one tensor.
            gradients: one tensor each.
            loss_scale: the factor of mixed precision that the loss had; None for 1.
        """
        with torch.set_grad_enabled(self.strength.active):
            norm = gradient_norm(gradients)
            norm = norm if loss_scale is None else norm / loss_scale
        by = [TensorWeakRef(t) for t in inputs]
        self._note(_Capture(list(gradients), by, all(t.is_leaf for t in inputs), norm))

    @abstractmethod
    def plain_gradient(self, outputs: Sequence[Tensor], inputs: Sequence[Tensor]) -> Tensor | None:
        """A gradient without a graph is asked for.

        Returns:
            A scalar to add to the outputs, None for nothing.
        """

    @abstractmethod
    def backward(self, losses: Sequence[Tensor]) -> Tensor | None:
        """A backward pass begins.

        Returns:
            A scalar to add to the losses, None for nothing.
        """

    @abstractmethod
    def left_over(self) -> str | None:
        """What an optimiser step finds undone, in words; None if all is well."""

    @abstractmethod
    def drop(self) -> None:
        """Forgets what was captured."""

    @abstractmethod
    def _note(self, capture: _Capture) -> None: ...

    def _finish(self, norms: Sequence[Tensor], matching: float) -> None:
        lam = self.strength.lam_at(self._iteration)
        difficulty = float(torch.stack([n.detach() for n in norms]).mean())
        self._steps.append(Step(self._iteration, lam, len(norms), difficulty, matching))


class BackwardCorrection(Correction):
    """Loops that call ``backward`` on a matching loss: DC, DSA, DCC, MTT, FTD, DATM."""

    def __init__(
        self,
        strength: Strength,
        complain: Callable[[str], None],
        steps: list[Step],
        *,
        trajectories: bool,
    ) -> None:
        super().__init__(strength, complain, steps)
        self._trajectories = trajectories
        self._live: list[_Capture] = []
        self._by_hand = 0
        self._network: TensorWeakRef | None = None

    def begin(self) -> None:
        super().begin()
        self._network = None

    def plain_gradient(self, outputs: Sequence[Tensor], inputs: Sequence[Tensor]) -> Tensor | None:
        """The loss may be differentiated so, too; a part of it is a step of TESLA's."""
        if not self._live or not any(t.ndim > 2 for t in inputs):
            return None
        used = self._used_by(outputs)
        if not any(used):
            return None
        self._by_hand += 1
        if not all(used) or (self._trajectories and self._by_hand > 1):
            self._complain(
                f"the script makes image gradients by hand out of {sum(used)} of {len(used)} "
                "captured gradients, step by step: use the profile 'tesla'"
            )
            self.drop()
            return None
        return self._correct(self._live, outputs)

    def backward(self, losses: Sequence[Tensor]) -> Tensor | None:
        used = self._used_by(losses)
        if not any(used):  # somebody else's loss
            return None
        return self._correct(
            [c for c, is_used in zip(self._live, used, strict=True) if is_used], losses
        )

    def left_over(self) -> str | None:
        self._by_hand = 0
        if not self._live:
            return None
        better = "'tesla'" if self._trajectories else "'tm' or 'tesla'"
        return f"no backward pass has used {len(self._live)} of them: use the profile {better}"

    def drop(self) -> None:
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
        """For each captured gradient, whether the outputs were made with it."""
        return depends_on(outputs, [{g.grad_fn for g in c.gradients} for c in self._live])

    def _correct(self, captures: Sequence[_Capture], losses: Sequence[Tensor]) -> Tensor | None:
        self.drop()
        self._check_profile(captures)
        self._count_iteration(captures[0].first)
        norms = [c.norm for c in captures]
        self._finish(norms, float(losses[0].detach()))
        return self.strength.term(norms, self._iteration, of=len(norms))

    def _count_iteration(self, network: Tensor | None) -> None:
        """Every trajectory is an iteration, and every network not seen before."""
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
                f"the {len(captures)} captured gradients belong to different parameters: if they "
                "are the steps of a trajectory, use the profile 'tm'; if they are several "
                "networks, switch strict off"
            )
        elif self._trajectories and captures[0].leaf and same and len(captures) > 1:
            self._complain(
                f"all {len(captures)} captured gradients belong to the same parameters, so they "
                "are no steps of a trajectory: use the profile 'gm'"
            )


class StepwiseCorrection(Correction):
    """Loops that never call ``backward`` and compute image gradients step by step: TESLA.

    A first pass takes all inner steps, to sum their gradients; a second one asks at every step
    for a gradient with a graph, and for the image gradient of a product with it. That product
    gets the step's share.
    """

    def __init__(
        self, strength: Strength, complain: Callable[[str], None], steps: list[Step]
    ) -> None:
        super().__init__(strength, complain, steps)
        # Gradients asked for, by the shape of what they are taken with respect to: the first pass
        # counts the inner steps, whether it keeps graphs or not; the rate has another shape.
        self._asked: Counter[torch.Size] = Counter()
        self._latest: _Capture | None = None
        self._norms: list[Tensor] = []
        self._expected = 0

    def plain_gradient(self, outputs: Sequence[Tensor], inputs: Sequence[Tensor]) -> Tensor | None:
        capture = self._latest
        # Images have more than two dimensions; flat parameters, the rate and labels have fewer. So
        # this is a step of the first pass, or what the second asks for besides image gradients.
        if capture is None or not any(t.ndim > 2 for t in inputs):
            self._asked[inputs[0].shape] += 1
            return None
        # Not made of the captured gradient, and so no part of the matching loss.
        if not any(depends_on(outputs, [{g.grad_fn for g in capture.gradients}])):
            return None
        if not self._norms:
            self._begin_second_pass(capture)
        # Weights of convolutions have more than two dimensions, too: a gradient by them, or one
        # that no first pass came before, belongs to another loop, whose number of steps, and
        # with it the mean over them, is unknown here.
        if capture.is_by_any(inputs) or self._expected < 1:
            self._complain(
                "no first pass of inner steps came before the first image gradient, so the loop "
                f"is not TESLA's: use the profile {capture.profile}"
            )
            self.drop()
            return None
        # A captured gradient serves one image gradient, or a second product with it would add the
        # step's share again. Its norm is kept detached, for the record alone: one step's graph
        # is alive at a time, which is the point of TESLA's two passes.
        self._latest = None
        self._norms.append(capture.norm.detach())
        of = self._expected
        if len(self._norms) == of:
            self._finish(self._norms, math.nan)
            self.drop()
        return self.strength.term([capture.norm], self._iteration, of=of)

    def backward(self, losses: Sequence[Tensor]) -> Tensor | None:
        capture = self._latest
        if capture is not None:
            self._complain(
                "the script goes backward from its loss, and computes no image gradients by hand: "
                f"use the profile {capture.profile}"
            )
            self.drop()
        return None

    def left_over(self) -> str | None:
        if self._norms:
            return f"{self._expected} image gradients were expected, {len(self._norms)} came"
        if self._latest is not None:
            return f"no image gradient was asked for: use the profile {self._latest.profile}"
        return None

    def drop(self) -> None:
        self._asked.clear()
        self._latest, self._norms = None, []

    def _note(self, capture: _Capture) -> None:
        self._latest = capture
        by = capture.first
        if by is not None:
            self._asked[by.shape] += 1

    def _begin_second_pass(self, capture: _Capture) -> None:
        by = capture.first
        self._expected = 0 if by is None else self._asked[by.shape] - 1
        self._iteration += 1

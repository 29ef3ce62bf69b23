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
from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.utils.weak import TensorWeakRef

from sdc_ext.errors import InputError
from sdc_ext.regularizer import Norm, Schedule, gradient_norm

Reduction: TypeAlias = Literal["sum", "mean"]

REDUCTIONS: dict[str, Reduction] = {"gm": "sum", "tm": "mean", "tesla": "mean"}  # by default

_MOST_LIVE = 2000  # one a class of Tiny ImageNet is 200, one an inner step about 100


class InjectionError(InputError):
    """A script does not do what its profile says; the message names the profile to use."""


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

    def weight(self, iteration: int) -> float:
        """The factor of the norms at an outer iteration."""
        return self.scale * self.lam_at(iteration)

    def lam_at(self, iteration: int) -> float:
        return float(self.lam(iteration) if callable(self.lam) else self.lam)

    def penalty(self, norm: Tensor) -> Tensor:
        return norm if self.norm == "l2" else norm.square()


@dataclass(frozen=True)
class Step:
    """One corrected image step.

    Attributes:
        iteration: outer iteration: for gradient matching the networks seen before this one, for
            trajectories the steps before this one, since the synthetic images were made.
        lam: the correction's weight, without the scale.
        captured: how many gradients of synthetic batches it was made of.
        difficulty: their mean L2 norm (GraDN), a detached scalar.
        matching: the script's own loss, a detached scalar; NaN where it has none to go backward.
    """

    iteration: int
    lam: float
    captured: int
    difficulty: Tensor
    matching: Tensor


class _Origin:
    """What a gradient was taken with respect to; keeps nothing alive."""

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        self._refs = [TensorWeakRef(t) for t in inputs]
        self.leaf = all(t.is_leaf for t in inputs)  # parameters of a network, not inner steps

    @property
    def first(self) -> Tensor | None:
        first: Tensor | None = self._refs[0]()
        return first

    def has_any(self, tensors: Sequence[Tensor]) -> bool:
        return any(ref() is tensor for ref in self._refs for tensor in tensors)

    @property
    def profile(self) -> str:
        """The profile that it speaks for, if the loop goes backward."""
        return "'gm'" if self.leaf else "'tm'"


class Correction(ABC):
    """What the kinds of loops share.

    Attributes:
        strength: how strongly to correct.
        complain: called with what is wrong; raises if the injection is strict.
        steps: where corrected image steps are noted.
        since_image_step: corrections since the images were last updated.
    """

    def __init__(
        self, strength: Strength, complain: Callable[[str], None], steps: list[Step]
    ) -> None:
        self.strength = strength
        self.complain = complain
        self.steps = steps
        self.since_image_step = 0
        self._iteration = -1

    def begin(self) -> None:
        """New synthetic images: schedules start again."""
        self._iteration = -1

    @abstractmethod
    def capture(self, inputs: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        """The gradient of a synthetic batch was taken, and stays in graph."""

    @abstractmethod
    def plain_gradient(self, inputs: Sequence[Tensor]) -> Tensor | None:
        """A gradient without a graph is asked for; returns what to add to its outputs."""

    @abstractmethod
    def backward(self, loss: Tensor) -> Tensor | None:
        """A backward pass begins; returns what to add to the loss."""

    @abstractmethod
    def left_over(self) -> str | None:
        """What an optimiser step finds undone: the profile that would have done it, or None."""

    @abstractmethod
    def drop(self) -> None:
        """Forgets what was captured."""

    def _norm(self, gradients: Sequence[Tensor]) -> Tensor:
        """Their L2 norm, in graph if there is something to correct."""
        with torch.set_grad_enabled(self.strength.active):
            return gradient_norm(gradients)

    def _finish(self, norms: Sequence[Tensor], matching: Tensor) -> None:
        lam = self.strength.lam_at(self._iteration)
        difficulty = torch.stack([n.detach() for n in norms]).mean()
        self.steps.append(Step(self._iteration, lam, len(norms), difficulty, matching.detach()))
        self.since_image_step += 1


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
        self._origins: list[_Origin] = []
        self._norms: list[Tensor] = []
        self._by_hand = 0
        self._network: _Origin | None = None

    def begin(self) -> None:
        super().begin()
        self._network = None

    def capture(self, inputs: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        self._origins.append(_Origin(inputs))
        self._norms.append(self._norm(gradients))
        if len(self._norms) > _MOST_LIVE:
            self.complain(
                f"{len(self._norms)} gradients with their graphs wait for a backward pass that "
                "does not come: use the profile 'tesla' if the script computes image gradients "
                "by hand"
            )
            self.drop()

    def plain_gradient(self, inputs: Sequence[Tensor]) -> Tensor | None:
        """Adds nothing; but gradients of images show that they are made by hand."""
        ours = not self._origins or any(o.has_any(inputs) for o in self._origins)
        others = [t for t in inputs if t.ndim > 1 and not isinstance(t, torch.nn.Parameter)]
        if others and not ours:
            self._by_hand += 1
            if self._by_hand > 1:
                self.complain(
                    f"{len(self._norms)} captured gradients wait for a backward pass while the "
                    "script asks for image gradients by hand: use the profile 'tesla'"
                )
        return None

    def backward(self, loss: Tensor) -> Tensor | None:
        if not self._norms:
            return None
        self._check_profile()
        self._count_iteration(self._origins[0])
        norms = self._norms
        self.drop()
        self._finish(norms, loss)
        weight = self.strength.weight(self._iteration)
        if weight == 0:
            return None
        penalty = self.strength.penalty(torch.stack(norms))
        return weight * (penalty.sum() if self.strength.reduction == "sum" else penalty.mean())

    def left_over(self) -> str | None:
        if not self._norms:
            return None
        return "'tesla'" if self._by_hand or self._trajectories else "'tm' or 'tesla'"

    def drop(self) -> None:
        self._origins, self._norms, self._by_hand = [], [], 0

    def _count_iteration(self, origin: _Origin) -> None:
        """Every trajectory is an iteration, and every network not seen before."""
        network = None if self._network is None else self._network.first
        if self._trajectories or network is None or not origin.has_any([network]):
            self._iteration += 1
            self._network = origin

    def _check_profile(self) -> None:
        first, *others = self._origins
        if not self._trajectories and not all(o.leaf for o in self._origins):
            self.complain(
                "the captured gradients belong to the steps of a trajectory, not to a network's "
                "parameters: use the profile 'tm'"
            )
        network = first.first
        fixed = network is not None and all(o.has_any([network]) for o in others)
        if self._trajectories and first.leaf and others and fixed:
            self.complain(
                f"all {len(self._norms)} captured gradients belong to the same parameters, so they "
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
        self._asked: Counter[torch.Size] = Counter()
        self._origin: _Origin | None = None
        self._gradients: list[Tensor] = []
        self._norms: list[Tensor] = []
        self._expected = 0

    def capture(self, inputs: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        self._asked[inputs[0].shape] += 1
        self._origin = _Origin(inputs)
        self._gradients = list(gradients)

    def plain_gradient(self, inputs: Sequence[Tensor]) -> Tensor | None:
        images = [t for t in inputs if t.ndim > 1]
        if not images or self._origin is None:
            self._asked[inputs[0].shape] += 1
            return None
        if not self._norms:
            by = self._origin.first
            self._expected = 0 if by is None else self._asked[by.shape] - 1
            self._iteration += 1
        if self._origin.has_any(images) or self._expected < 1:
            self.complain(
                "no first pass of inner steps came before the first image gradient, so the loop "
                f"is not TESLA's: use the profile {self._origin.profile}"
            )
            self.drop()
            return None
        return self._correct(self._norm(self._gradients))

    def backward(self, loss: Tensor) -> Tensor | None:
        if self._origin is not None:
            self.complain(
                "the script goes backward from its loss, and computes no image gradients by hand: "
                f"use the profile {self._origin.profile}"
            )
            self.drop()
        return None

    def left_over(self) -> str | None:
        if self._origin is not None:
            return self._origin.profile
        return "'tm' or 'gm'" if self._norms else None

    def drop(self) -> None:
        self._asked.clear()
        self._origin, self._gradients, self._norms = None, [], []

    def _correct(self, norm: Tensor) -> Tensor | None:
        """The term of one inner step."""
        self._origin, self._gradients = None, []
        self._norms.append(norm.detach())
        weight = self.strength.weight(self._iteration)
        if self.strength.reduction == "mean":
            weight /= self._expected
        if len(self._norms) == self._expected:
            self._finish(self._norms, norm.new_tensor(math.nan))
            self.drop()
        return weight * self.strength.penalty(norm) if weight > 0 else None

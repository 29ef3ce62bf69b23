"""Measures how strongly an unmodified loop's own loss and the term pull at its images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sdc_ext._graphs import leaves_of
from sdc_ext.strength import Pull


@dataclass(frozen=True)
class BackwardPass:
    """A backward pass that the loop is about to make.

    Attributes:
        roots: The tensors to differentiate, at least one.
        seeds: The gradients of the roots, as the loop passes them; None for ones.
        inputs: The tensors that the loop asks for; None for all leaves.
        loss_scale: The factor by which mixed precision scaled the roots; None for 1.
    """

    roots: Sequence[Tensor]
    seeds: Any
    inputs: Sequence[Tensor] | None
    loss_scale: Tensor | None

    @property
    def targets(self) -> list[Tensor]:
        """The tensors that the pass flows to."""
        return list(leaves_of(self.roots) if self.inputs is None else self.inputs)

    @property
    def factor(self) -> Tensor | None:
        """The factor by which the loop has multiplied a single loss; None for 1."""
        if len(self.roots) > 1 or self.roots[0].numel() > 1 or self.seeds is None:
            return self.loss_scale
        with torch.enable_grad():  # a weight may be learnt, and cancels in the norm
            weight: Tensor = self.seeds[0].abs().reshape(())
            weight = weight.clamp_min(torch.finfo(weight.dtype).tiny)
            return weight if self.loss_scale is None else weight * self.loss_scale

    @property
    def value(self) -> float:
        """The sum of the roots."""
        return sum(float(root.detach().sum()) for root in self.roots)

    def scaled(self, term: Tensor) -> Tensor:
        """Returns the term as it has to be added to the roots."""
        return term if self.loss_scale is None else term * self.loss_scale

    def gradients(self, term: Tensor, images: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Differentiates the roots and the term by the images, without the loss scale.

        The loop's own pass still finds its graph, and no ``.grad`` changes. No injection observes
        this, since the interception lets everything pass while it asks for a term.
        """
        scale = 1.0 if self.loss_scale is None else self.loss_scale
        by_roots, by_term = (
            torch.autograd.grad(root, images, seeds, retain_graph=True, materialize_grads=True)
            for root, seeds in ((self.roots, self.seeds), (self.scaled(term), None))
        )
        return [(r / scale, t / scale) for r, t in zip(by_roots, by_term, strict=True)]


class Measure:
    """The two image gradients of an image step, summed over the passes that make them.

    TESLA's loops ask for an image gradient at every inner step, often by a tensor made for this
    step. The images that all of these are made from are leaves of every step's graph, so their
    gradients add up to those of the image step. Where a loop makes new leaves for each step, which
    images they stand for is unknown, and their gradients are concatenated.
    """

    def __init__(self) -> None:
        # By identity; the tensor is kept, since a later one might get the identity of a lost one.
        self._sums: dict[int, tuple[Tensor, Tensor, Tensor]] = {}

    def add(self, asked: BackwardPass, term: Tensor, images: Sequence[Tensor]) -> str | None:
        """Differentiates and adds up; says what prevents it, and returns None if nothing does.

        Args:
            asked: The loop's pass.
            term: The term at lam 1 that belongs to this pass, with its graph.
            images: What is learnt, at least one tensor.
        """
        # A graph is kept longer for a measure, which takes memory, and some functions allow a
        # single backward pass. Neither is to stop a loop that goes on without the measure.
        try:
            gradients = asked.gradients(term, images)
        except RuntimeError as error:
            return f"the loss cannot be differentiated twice ({error})"
        for image, (by_roots, by_term) in zip(images, gradients, strict=True):
            known = self._sums.get(id(image))
            if known is not None:
                by_roots, by_term = known[1] + by_roots, known[2] + by_term
            self._sums[id(image)] = (image, by_roots, by_term)
        return None

    @property
    def pull(self) -> Pull:
        """How strongly the loop's loss and the term pull at the images."""
        sums = self._sums.values()
        return Pull.of([matching for _, matching, _ in sums], [term for *_, term in sums])

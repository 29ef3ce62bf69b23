"""The term that the injection adds, which is the formula of the wrapper with a further factor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from sdc_ext.regularizer import Norm, Reduction, sdc_penalty
from sdc_ext.strength import Strength


@dataclass(frozen=True)
class Term:
    """The term that is added to a loop's loss.

    Attributes:
        strength: The strength of the correction.
        norm: The norm that is penalised.
        reduction: How the norms of a loss are reduced.
        scale: A further factor of the term, above 0.
    """

    strength: Strength
    norm: Norm
    reduction: Reduction
    scale: float

    def at(self, lam: float, norms: Sequence[Tensor], of: int) -> Tensor | None:
        """Returns the term for some of the ``of`` norms of a loss; None if it is zero.

        Args:
            lam: The weight, without the scale.
            norms: Gradient norms, scalars with their graphs.
            of: The number of norms of the whole loss.
        """
        weight = self.scale * lam
        return self._weighted(weight, norms, of) if weight else None

    def at_one(self, norms: Sequence[Tensor], of: int) -> Tensor:
        """Returns the term at lam 1."""
        return self._weighted(self.scale, norms, of)

    def _weighted(self, weight: float, norms: Sequence[Tensor], of: int) -> Tensor:
        return sdc_penalty(norms, weight, norm=self.norm, reduction=self.reduction, of=of)

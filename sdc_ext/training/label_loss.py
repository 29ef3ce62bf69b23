"""The loss between a network's output and labels, which may be probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch.nn.functional as F
from torch import Tensor

LabelLossName: TypeAlias = Literal["cross_entropy", "kl"]


@dataclass(frozen=True)
class LabelLoss:
    """Compares outputs with labels.

    Hard labels always count by their plain cross-entropy. The two losses of probabilities differ
    by the entropy of the labels, so that their gradients are the same.

    Attributes:
        name: ``"cross_entropy"``, or ``"kl"`` for the Kullback-Leibler divergence from the labels.
        temperature: Divides the output before probabilities are compared. The labels have to be
            softened alike; see ``soften``.

    Reference: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network";
        ``ddranking/loss`` of DD-Ranking's package, whose ``scale_loss`` is off by default.
    """

    name: LabelLossName = "cross_entropy"
    temperature: float = 1.0

    def __call__(self, output: Tensor, labels: Tensor) -> Tensor:
        """Returns the summed loss of outputs (B, classes) and labels (B,) or (B, classes)."""
        return self._reduced(output, labels, "sum")

    def mean(self, output: Tensor, labels: Tensor) -> Tensor:
        """Returns the mean loss over the batch."""
        return self._reduced(output, labels, "mean")

    def _reduced(self, output: Tensor, labels: Tensor, reduction: Literal["sum", "mean"]) -> Tensor:
        if labels.ndim < output.ndim:
            return F.cross_entropy(output, labels, reduction=reduction)
        if self.temperature != 1:
            output = output / self.temperature
        if self.name == "kl":
            summing = "sum" if reduction == "sum" else "batchmean"
            return F.kl_div(output.log_softmax(-1), labels, reduction=summing)
        return F.cross_entropy(output, labels, reduction=reduction)

    def soften(self, labels: Tensor) -> Tensor:
        """Returns probabilities (N, classes) at the temperature; hard labels as they are.

        With ``p = softmax(z)`` this is ``softmax(z / temperature)``, whatever the logits z were.
        """
        if labels.ndim == 1 or self.temperature == 1:
            return labels
        return (labels.log() / self.temperature).softmax(-1)


PLAIN = LabelLoss()

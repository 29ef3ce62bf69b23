"""Scores that the field reports beside accuracy, all as fractions.

Reference: DD-Ranking (Li et al., 2025). Its release 0.2.0 computes them in percent, which puts the
exponent of its label-robust score out of range; here accuracies are in [0, 1], as in its formulas.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sdc_ext.errors import InputError


@dataclass(frozen=True)
class Scores:
    """All of them for one set.

    Attributes:
        hlr: see :func:`hard_label_recovery`.
        ior: see :func:`improvement_over_random`.
        lrs: see :func:`label_robust_score`.
    """

    hlr: float
    ior: float
    lrs: float

    @classmethod
    def of(cls, *, own: float, hard: float, random: float, full: float) -> Scores:
        """The scores of test accuracies in [0, 1].

        Args:
            own: trained on the distilled set with its own labels.
            hard: with hard labels instead.
            random: on as many random real images, labelled hard, or softly where the set is.
            full: on all real images.

        Raises:
            InputError: if an accuracy is not in [0, 1].
        """
        hlr, ior = hard_label_recovery(full, hard), improvement_over_random(own, random)
        return cls(hlr, ior, label_robust_score(hlr, ior))


def hard_label_recovery(full: float, synthetic: float) -> float:
    """HLR: what is missing to training on the whole real set, both with hard labels.

    ``HLR = acc(full, hard) - acc(synthetic, hard)``; lower is better.

    Args:
        full: test accuracy after training on all real images.
        synthetic: after training on the distilled images with hard labels.

    Raises:
        InputError: if an accuracy is not in [0, 1].
    """
    _check(full=full, synthetic=synthetic)
    return full - synthetic


def improvement_over_random(synthetic: float, random: float) -> float:
    """IOR: what distillation gains over as many random real images, under the same training.

    ``IOR = acc(synthetic) - acc(random)``; higher is better.

    Args:
        synthetic: test accuracy after training on the distilled set, with its own labels.
        random: after training on random real images, as many.

    Raises:
        InputError: if an accuracy is not in [0, 1].
    """
    _check(synthetic=synthetic, random=random)
    return synthetic - random


def label_robust_score(recovery: float, improvement: float, weight: float = 0.5) -> float:
    """LRS: one number in [0, 1] of the two, which soft labels alone cannot raise.

    ``alpha = w * IOR - (1 - w) * HLR``, ``LRS = (exp(alpha) - exp(-1)) / (exp(1) - exp(-1))``

    Args:
        recovery: HLR, in [-1, 1].
        improvement: IOR, in [-1, 1].
        weight: w, in [0, 1].

    Raises:
        InputError: if a number is out of range.
    """
    for name, value, low in (("HLR", recovery, -1), ("IOR", improvement, -1), ("w", weight, 0)):
        if not low <= value <= 1:
            raise InputError(f"{name} must be a fraction in [{low}, 1], got {value}")
    alpha = weight * improvement - (1 - weight) * recovery
    return (math.exp(alpha) - math.exp(-1)) / (math.exp(1) - math.exp(-1))


def _check(**accuracies: float) -> None:
    for name, value in accuracies.items():
        if not 0 <= value <= 1:
            raise InputError(f"the accuracy {name} must be a fraction in [0, 1], got {value}")

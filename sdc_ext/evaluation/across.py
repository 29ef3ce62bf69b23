"""Gains of the same arms in several settings, and their summaries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sdc_ext.evaluation.arms import Arm
from sdc_ext.evaluation.comparison import Comparison, Gain
from sdc_ext.evaluation.paired import holm
from sdc_ext.evaluation.summaries import RandomEffects, random_effects


@dataclass(frozen=True)
class ArmAcross:
    """The gains of one arm in several settings: methods, ipc or data sets.

    Attributes:
        arm: The arm.
        base: The arm that it is compared with in each setting.
        gains: The gains by the name of the setting.
        summary: Their random-effects summary; None if fewer than two settings have differences
            that vary.
        p: The p-value of no mean gain, adjusted for the number of arms by Holm's method; 1 without
            a summary.
        diverged: The settings in which the arm diverged, so that they have no gain.
    """

    arm: Arm
    base: Arm
    gains: Mapping[str, Gain]
    summary: RandomEffects | None
    p: float = 1.0
    diverged: Sequence[str] = ()

    @property
    def left_out(self) -> list[str]:
        """The settings whose differences are all equal, so that the summary has no error."""
        return [name for name, gain in self.gains.items() if not gain.difference.varies]

    def row(self) -> dict[str, object]:
        """Returns the summary as content for JSON."""
        s = self.summary
        row: dict[str, object] = {
            "arm": self.arm.name,
            "settings": self.arm.values,
            "base": self.base.name,
            "left_out": self.left_out,
            "diverged": self.diverged,
        }
        if s is not None:
            row |= {"n": s.n, "mean": s.mean, "interval": s.interval, "p": s.p, "p_holm": self.p}
            row |= {"prediction": s.prediction, "tau": s.tau, "i_squared": s.i_squared}
        return row


def across_settings(comparisons: Mapping[str, Comparison]) -> list[ArmAcross]:
    """Summarises the gains of each arm over comparisons of the same arms.

    Args:
        comparisons: The comparisons by the name of their setting. An arm may be missing from some,
            but not from all.
    """
    gains: dict[Arm, dict[str, Gain]] = {}
    for name, comparison in comparisons.items():
        for gain in comparison.gains:
            gains.setdefault(gain.arm, {})[name] = gain
    diverged = {
        arm: [name for name, comparison in comparisons.items() if arm in comparison.diverged]
        for arm in gains
    }
    found = [
        ArmAcross(
            arm, next(iter(of_arm.values())).base, of_arm, _summary(of_arm), diverged=diverged[arm]
        )
        for arm, of_arm in gains.items()
    ]
    adjusted = iter(holm([one.summary.p for one in found if one.summary is not None]))
    return [replace(one, p=next(adjusted)) if one.summary is not None else one for one in found]


def _summary(gains: Mapping[str, Gain]) -> RandomEffects | None:
    varying = [gain.difference for gain in gains.values() if gain.difference.varies]
    if len(varying) < 2:
        return None
    return random_effects([d.mean for d in varying], [d.error for d in varying])

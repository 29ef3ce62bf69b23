"""Paired statistics of runs that share everything but one setting: intervals and tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from sdc_ext.errors import InputError

_CONFIDENCE = 0.95

_POWER = 0.8

_RESAMPLES = 10_000

_MOST_SEEDS = 100_000

_LARGEST_EFFECT = 20.0


@dataclass(frozen=True)
class PairedDifference:
    """The differences between paired results: with a change minus without it.

    Attributes:
        differences: One difference per seed, at least two.
    """

    differences: tuple[float, ...]

    @classmethod
    def of(cls, changed: Sequence[float], base: Sequence[float]) -> PairedDifference:
        """Pairs results by their positions.

        Args:
            changed: The results with the change, one per seed.
            base: The results without it, for the same seeds in the same order.

        Raises:
            InputError: If their numbers differ, or are below 2.
        """
        if len(changed) != len(base) or len(base) < 2:
            raise InputError(
                "paired results need equally many values on both sides, at least 2, got "
                f"{len(changed)} and {len(base)}"
            )
        return cls(tuple(float(a - b) for a, b in zip(changed, base, strict=True)))

    @property
    def n(self) -> int:
        """The number of pairs."""
        return len(self.differences)

    @property
    def mean(self) -> float:
        """The mean difference."""
        return float(np.mean(self.differences))

    @property
    def std(self) -> float:
        """The sample standard deviation, with n - 1 degrees of freedom."""
        return float(np.std(self.differences, ddof=1))

    @property
    def t_interval(self) -> tuple[float, float]:
        """The 95 % confidence interval of the mean by Student's t."""
        half = stats.t.ppf((1 + _CONFIDENCE) / 2, self.n - 1) * self.std / self.n**0.5
        return self.mean - float(half), self.mean + float(half)

    @property
    def bootstrap_interval(self) -> tuple[float, float]:
        """The 95 % percentile interval of the mean over resampled seeds.

        With few seeds it is too narrow: it covers the true mean in 86 % of cases with 5 seeds and
        in 90 % with 10, whereas Student's t interval covers it in 95 %.
        """
        draw = np.random.default_rng(0)
        means = draw.choice(self.differences, (_RESAMPLES, self.n)).mean(1)
        low, high = np.quantile(means, [(1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2])
        return float(low), float(high)

    @property
    def wins(self) -> int:
        """The number of seeds with a positive difference."""
        return sum(d > 0 for d in self.differences)

    @property
    def losses(self) -> int:
        """The number of seeds with a negative difference."""
        return sum(d < 0 for d in self.differences)

    @property
    def sign_test(self) -> float:
        """The two-sided p-value of the sign test; seeds without a difference do not count."""
        decided = self.wins + self.losses
        return 1.0 if decided == 0 else float(stats.binomtest(self.wins, decided).pvalue)

    def seeds_needed(self, gain: float) -> int | None:
        """Returns the number of seeds with which a paired t-test detects a gain four times in five.

        The test is two-sided at a level of 5 %, and the standard deviation is the one observed.

        Args:
            gain: The true mean difference, above 0, in the unit of the differences.

        Returns:
            A number of seeds from 2 to 100,000; None if these are not enough, or if all
            differences are equal, which does not tell how much those of further seeds vary.

        Raises:
            InputError: If ``gain`` is not above 0.
        """
        if not gain > 0:
            raise InputError(f"the gain to detect must be above 0, got {gain:g}")
        if self.std == 0:
            return None
        low, high = 2, 2
        while _power(gain / self.std, high) < _POWER:
            if high == _MOST_SEEDS:
                return None
            low, high = high, min(2 * high, _MOST_SEEDS)
        while low < high:
            middle = (low + high) // 2
            if _power(gain / self.std, middle) < _POWER:
                low = middle + 1
            else:
                high = middle
        return low


def points(interval: Sequence[float]) -> str:
    """Returns an interval of fractions as text, in percentage points."""
    return " to ".join(f"{100 * bound:+.2f}" for bound in interval)


def _power(effect: float, n: int) -> float:
    """Returns the power of a two-sided paired t-test; the effect is in standard deviations."""
    effect = min(effect, _LARGEST_EFFECT)  # scipy's noncentral t breaks down beyond it
    critical = stats.t.ppf((1 + _CONFIDENCE) / 2, n - 1)
    shift = effect * n**0.5
    return float(stats.nct.sf(critical, n - 1, shift) + stats.nct.cdf(-critical, n - 1, shift))

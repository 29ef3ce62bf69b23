"""Is a difference signal? Paired statistics of runs that share everything but one setting."""

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
    """Differences of paired results, first with the change, then without.

    Attributes:
        differences: one a seed.
    """

    differences: tuple[float, ...]

    @classmethod
    def of(cls, changed: Sequence[float], base: Sequence[float]) -> PairedDifference:
        """Pairs results by position.

        Raises:
            InputError: if they are not as many, or fewer than 2.
        """
        if len(changed) != len(base) or len(base) < 2:
            raise InputError(
                f"paired results need as many on both sides, at least 2, got {len(changed)} and "
                f"{len(base)}"
            )
        return cls(tuple(float(a - b) for a, b in zip(changed, base, strict=True)))

    @property
    def n(self) -> int:
        return len(self.differences)

    @property
    def mean(self) -> float:
        return float(np.mean(self.differences))

    @property
    def std(self) -> float:
        """Sample standard deviation, of n - 1 degrees of freedom."""
        return float(np.std(self.differences, ddof=1))

    @property
    def t_interval(self) -> tuple[float, float]:
        """95 % confidence interval of the mean by Student's t."""
        half = stats.t.ppf((1 + _CONFIDENCE) / 2, self.n - 1) * self.std / self.n**0.5
        return self.mean - float(half), self.mean + float(half)

    @property
    def bootstrap_interval(self) -> tuple[float, float]:
        """95 % percentile interval of the mean over resampled seeds.

        With few seeds it is too narrow: it covers the truth in 86 % of cases with 5 seeds, and in
        90 % with 10, where Student's t interval does in 95 %.
        """
        draw = np.random.default_rng(0)
        means = draw.choice(self.differences, (_RESAMPLES, self.n)).mean(1)
        low, high = np.quantile(means, [(1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2])
        return float(low), float(high)

    @property
    def wins(self) -> int:
        """Seeds that gain."""
        return sum(d > 0 for d in self.differences)

    @property
    def losses(self) -> int:
        """Seeds that lose."""
        return sum(d < 0 for d in self.differences)

    @property
    def sign_test(self) -> float:
        """Two-sided p-value of the sign test; seeds without a difference do not count."""
        decided = self.wins + self.losses
        return 1.0 if decided == 0 else float(stats.binomtest(self.wins, decided).pvalue)

    def seeds_needed(self, gain: float) -> int | None:
        """How many seeds a paired t-test needs to find a true ``gain`` four times in five.

        At a two-sided level of 5 %, with the standard deviation seen here.

        Args:
            gain: the true mean difference, above 0, in the unit of the differences.

        Returns:
            At least 2; None if 100,000 would not do.

        Raises:
            InputError: if ``gain`` is not above 0.
        """
        if not gain > 0:
            raise InputError(f"a gain above 0 can be found, got {gain:g}")
        if self.std == 0:
            return 2
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
    """An interval of fractions as text, in percentage points."""
    return " to ".join(f"{100 * bound:+.2f}" for bound in interval)


def _power(effect: float, n: int) -> float:
    """Of a two-sided paired t-test with ``n`` pairs, at an effect in standard deviations."""
    effect = min(effect, _LARGEST_EFFECT)  # where scipy's distribution still has values
    critical = stats.t.ppf((1 + _CONFIDENCE) / 2, n - 1)
    shift = effect * n**0.5
    return float(stats.nct.sf(critical, n - 1, shift) + stats.nct.cdf(-critical, n - 1, shift))

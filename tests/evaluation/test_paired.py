from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sdc_ext.errors import InputError
from sdc_ext.evaluation.paired import PairedDifference

NUMBERS = st.lists(st.floats(-1, 1).map(lambda x: round(x, 3)), min_size=2, max_size=30)


@settings(deadline=None, max_examples=50)
@given(NUMBERS)
def test_intervals_are_those_of_the_textbooks(differences: list[float]) -> None:
    paired = PairedDifference(tuple(differences))
    low, high = paired.t_interval
    assert low <= paired.mean <= high
    if paired.std > 1e-6:
        expected = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
        np.testing.assert_allclose((low, high), (expected.low, expected.high))
    low, high = paired.bootstrap_interval
    assert min(differences) - 1e-12 <= low <= high <= max(differences) + 1e-12


def test_pairs_are_made_by_position() -> None:
    paired = PairedDifference.of([0.9, 0.8, 0.7, 0.6], [0.8, 0.8, 0.8, 0.5])
    assert paired.differences == pytest.approx((0.1, 0, -0.1, 0.1))
    assert (paired.wins, paired.losses) == (2, 1)
    assert paired.sign_test == 1.0


def test_the_sign_test_counts_decided_seeds() -> None:
    paired = PairedDifference.of([1.0] * 6 + [0.5], [0.5] * 7)
    assert paired.sign_test == pytest.approx(2 * 0.5**6)
    assert PairedDifference.of([1.0, 1.0], [1.0, 1.0]).sign_test == 1.0


def test_intervals_cover_the_truth_and_needed_seeds_have_the_power() -> None:
    draw = np.random.default_rng(0)
    needed = PairedDifference((-0.01, 0.01, -0.01, 0.01)).seeds_needed(0.005)
    std = PairedDifference((-0.01, 0.01, -0.01, 0.01)).std
    found = covered = 0
    for _ in range(2000):
        paired = PairedDifference(tuple(draw.normal(0.005, std, needed)))
        low, high = paired.t_interval
        covered += low <= 0.005 <= high
        found += low > 0 or high < 0
    assert covered / 2000 == pytest.approx(0.95, abs=0.02)
    assert found / 2000 == pytest.approx(0.8, abs=0.04)


def test_needed_seeds_at_the_ends() -> None:
    assert PairedDifference((0.1, 0.1)).seeds_needed(0.005) is None
    assert PairedDifference((-1.0, 1.0)).seeds_needed(1e-4) is None


@pytest.mark.parametrize(("changed", "base"), [([1.0], [1.0]), ([1.0, 2.0], [1.0])])
def test_too_few_or_unequal(changed: list[float], base: list[float]) -> None:
    with pytest.raises(InputError, match="equally many values on both sides, at least 2"):
        PairedDifference.of(changed, base)

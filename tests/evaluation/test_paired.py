from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from sdc_ext.errors import InputError
from sdc_ext.evaluation.paired import PairedDifference, holm, points

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


@settings(deadline=None, max_examples=50)
@given(NUMBERS, st.floats(0.001, 1))
def test_tests_are_those_of_scipy(differences: list[float], margin: float) -> None:
    paired = PairedDifference(tuple(differences))
    if not paired.varies:
        assert paired.t_test == paired.equivalence_test(margin) == paired.anytime_test == 1
        return
    assert paired.t_test == pytest.approx(stats.ttest_1samp(differences, 0).pvalue)
    above = stats.ttest_1samp(differences, -margin, alternative="greater").pvalue
    below = stats.ttest_1samp(differences, margin, alternative="less").pvalue
    assert paired.equivalence_test(margin) == pytest.approx(max(above, below))


@settings(deadline=None, max_examples=50)
@given(NUMBERS)
def test_looks_cost_width_and_evidence(differences: list[float]) -> None:
    paired = PairedDifference(tuple(differences))
    low, high = paired.anytime_interval
    if math.isinf(low):
        assert paired.n < 5 or not paired.varies
        return
    assert low < paired.t_interval[0] and high > paired.t_interval[1]
    assert paired.anytime_test >= paired.t_test
    shifted = PairedDifference(tuple(d - low for d in differences))
    assert shifted.anytime_test == pytest.approx(0.05)  # the interval is the inverse of the test
    margin = max(abs(low), abs(high))
    assert paired.anytime_equivalence_test(margin) == pytest.approx(0.05)
    assert paired.anytime_equivalence_test(abs(paired.mean)) == 1


def test_evidence_is_the_mixture_of_likelihood_ratios() -> None:
    """The closed form is the integral of noncentral over central densities of t."""
    differences = (0.3, -0.1, 0.5, 0.4, 0.2, 0.6)
    paired = PairedDifference(differences)
    t = paired.mean / paired.error
    effects = np.linspace(-8, 8, 4001)
    ratios = stats.nct.pdf(t, 5, 6**0.5 * effects) / stats.t.pdf(t, 5)
    mixed = integrate.trapezoid(ratios * stats.norm.pdf(effects), effects)
    assert paired.anytime_test == pytest.approx(1 / mixed, rel=1e-6)


def test_looks_are_paid_for_and_planned_numbers_are_not() -> None:
    """Without an effect, one look at every seed: 5 % of false discoveries, or many."""
    draw = np.random.default_rng(0)
    fixed = anytime = 0
    for _ in range(300):
        differences = tuple(draw.normal(size=40))
        looks = [PairedDifference(differences[:n]) for n in range(3, 41)]
        fixed += any(look.t_test < 0.05 for look in looks)
        anytime += any(look.anytime_test < 0.05 for look in looks)
    assert fixed > 60 and anytime <= 15


def test_equal_differences_claim_nothing() -> None:
    paired = PairedDifference.of([0.3, 0.4, 0.5], [0.1, 0.2, 0.3])  # equal but for rounding
    assert paired.std > 0 and not paired.varies
    assert paired.t_test == paired.equivalence_test(0.5) == 1
    assert paired.t_interval == paired.anytime_interval == (-math.inf, math.inf)
    assert paired.seeds_needed(0.005) is None is paired.seeds_left(0.005)


def test_seeds_left_are_those_needed_without_those_made() -> None:
    paired = PairedDifference((-0.01, 0.01, -0.01, 0.01))
    assert paired.seeds_left(0.005) == paired.seeds_needed(0.005) - 4
    assert paired.seeds_left(0.1) == 0


@pytest.mark.parametrize("margin", [0.0, -1.0, math.nan])
def test_margins_are_above_zero(margin: float) -> None:
    with pytest.raises(InputError, match="margin of equivalence must be above 0"):
        PairedDifference((0.1, 0.2)).equivalence_test(margin)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1, 1]
    assert holm([0.03]) == [0.03]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_keeps_the_order_and_lies_between_none_and_bonferroni(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    for p, a in zip(p_values, adjusted, strict=True):
        assert p <= a <= min(1, len(p_values) * p) + 1e-12
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(np.asarray(adjusted)[order]) >= 0).all()


def test_unbounded_intervals_as_text() -> None:
    assert points((-math.inf, math.inf)) == points(None) == "unbounded"
    assert points((-0.01, 0.0123)) == "-1.00 to +1.23"


def test_means_in_another_order_are_no_difference() -> None:
    one, other = 0.1 + 0.2 + 0.3, 0.3 + 0.2 + 0.1
    assert one != other
    difference = PairedDifference.of([one, 0.5], [other, 0.4])
    assert (difference.wins, difference.losses) == (1, 0)
    assert difference.differences[0] == 0.0

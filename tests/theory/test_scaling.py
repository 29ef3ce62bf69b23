"""The scaling law fitted to data that follow it, or do not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from law_data import FAMILY, FIVE, SEVEN, measure
from scipy import stats
from scipy.optimize import curve_fit

from sdc_ext.errors import InputError
from sdc_ext.theory.accuracies import Series
from sdc_ext.theory.scaling import Points, Scaling, fit_scaling, power_law

REPEATS = 200


def repeat(sizes: Sequence[int], truth: Sequence[float], draws: int = 100) -> list[Scaling]:
    random = np.random.default_rng(0)
    return [
        fit_scaling(measure(sizes, truth, random), seed, draws=draws) for seed in range(REPEATS)
    ]


def bounds(rate: float) -> tuple[float, float]:
    """Where a frequency of this rate lies in 998 of 1000 tests."""
    low, high = stats.binom.interval(0.998, REPEATS, rate)
    return low / REPEATS, high / REPEATS


@pytest.fixture(scope="module")
def with_floor() -> list[Scaling]:
    return repeat(FIVE, (0.2, 0.5, 0.05))


@pytest.fixture(scope="module")
def without_floor() -> list[Scaling]:
    return repeat(FIVE, (0.2, 0.5, 0.0))


@pytest.mark.parametrize(
    ("name", "truth"), [("amplitude", 0.2), ("exponent", 0.5), ("floor", 0.05), ("saturation", 0)]
)
def test_intervals_cover_a_law_with_a_floor(
    with_floor: list[Scaling], name: str, truth: float
) -> None:
    if name == "saturation":
        truth = np.exp(np.log(FIVE).mean()) * (0.2 / 0.05) ** 2
    intervals = np.array([law.laws["S2"].intervals[name] for law in with_floor])
    covered = np.mean((intervals[:, 0] <= truth) & (truth <= intervals[:, 1]))
    assert bounds(0.92)[0] <= covered <= bounds(0.96)[1]


@pytest.mark.parametrize(("name", "truth"), [("amplitude", 0.2), ("exponent", 0.5)])
def test_intervals_cover_a_law_without_a_floor(
    without_floor: list[Scaling], name: str, truth: float
) -> None:
    intervals = np.array([law.laws["S0"].intervals[name] for law in without_floor])
    covered = np.mean((intervals[:, 0] <= truth) & (truth <= intervals[:, 1]))
    assert bounds(0.95)[0] <= covered <= bounds(0.95)[1]


def test_a_floor_is_seen_where_there_is_one(
    with_floor: list[Scaling], without_floor: list[Scaling]
) -> None:
    assert np.mean([law.verdict == "floor" for law in with_floor]) > 0.83
    assert np.mean([law.aicc_claims for law in with_floor]) > 0.71
    assert np.mean([law.verdict == "floor" for law in without_floor]) <= bounds(0.05)[1]
    assert np.mean([law.aicc_claims for law in without_floor]) <= 0.01


def test_means_that_are_not_on_the_law_are_told(without_floor: list[Scaling]) -> None:
    wrongly = np.mean([law.misfit < 0.05 for law in without_floor])
    assert bounds(0.03)[0] <= wrongly <= bounds(0.07)[1]
    up_and_down = {
        size: {str(r): 0.1 + 0.08 * (k % 2) + 0.001 * r for r in range(4)}
        for k, size in enumerate(FIVE)
    }
    law = fit_scaling(Series(FAMILY, "convnet", "gap", up_and_down, 0.0), draws=2)
    assert law.misfit < 1e-4 and law.verdict == "no law fits"


def test_few_seeds_do_not_make_floors() -> None:
    """Their standard errors vary so much that each size's own would find floors too often."""
    random = np.random.default_rng(0)
    laws = [
        fit_scaling(measure(FIVE, (0.2, 0.5, 0.0), random, replicates=3), draws=2)
        for _ in range(REPEATS)
    ]
    assert np.mean([law.verdict == "floor" for law in laws]) <= bounds(0.05)[1]


def test_the_best_fit_is_that_of_curve_fit() -> None:
    series = measure(SEVEN, (0.3, 0.7, 0.1), np.random.default_rng(3))
    law, points = fit_scaling(series, draws=2).laws["S2"], Points.of(series)
    expected, _ = curve_fit(
        power_law,
        np.array(SEVEN) / points.center,
        points.means,
        p0=(0.3, 0.7, 0.1),
        sigma=points.standard_errors,
        absolute_sigma=True,
        bounds=([0, 0.05, 0], [5, 2, 1]),
    )
    assert (law.amplitude, law.exponent, law.floor) == pytest.approx(expected, rel=1e-3)


def test_the_root_law_is_recovered() -> None:
    law = fit_scaling(measure(SEVEN, (0.2, 0.5, 0.05), np.random.default_rng(0), error=1e-6))
    root = law.laws["S1"]
    assert (root.amplitude, root.floor, root.exponent) == pytest.approx((0.2, 0.05, 0.5), rel=1e-3)
    assert root.saturation == pytest.approx(root.center * 16, rel=1e-2)
    assert law.verdict == "floor" and law.chosen == "S2"


@pytest.mark.parametrize("sizes", [FIVE[:3], FIVE[:4]])
def test_few_sizes_leave_the_floor_undetermined(sizes: Sequence[int]) -> None:
    law = fit_scaling(measure(sizes, (0.2, 0.5, 0.05), np.random.default_rng(0)))
    assert (law.verdict, law.chosen, law.p_value, law.aicc_gain) == (
        "undetermined",
        "S0",
        None,
        None,
    )
    assert "S2" not in law.laws


@settings(deadline=None, max_examples=30)
@given(st.floats(0.01, 1), st.floats(0.1, 1.8), st.floats(0, 0.5))
def test_exact_data_give_their_law(amplitude: float, exponent: float, floor: float) -> None:
    series = measure(SEVEN, (amplitude, exponent, floor), np.random.default_rng(0), error=0)
    law = fit_scaling(series, draws=2)
    seen = law.laws["S2"](np.array(SEVEN, float))
    expected = [next(iter(of_size.values())) for of_size in series.values.values()]
    np.testing.assert_allclose(seen, expected, atol=1e-3)
    assert law.laws["S2"].deviance <= law.laws["S0"].deviance + 1e-4


def test_what_gaps_share_moves_the_floor_only() -> None:
    series = measure(SEVEN, (0.2, 0.5, 0.1), np.random.default_rng(0))
    unsure = Series(FAMILY, "convnet", "gap", series.values, 0.02)
    widths = []
    for one in (series, unsure):
        intervals = fit_scaling(one).laws["S2"].intervals
        widths.append({name: high - low for name, (low, high) in intervals.items()})
    assert widths[1]["floor"] > 1.5 * widths[0]["floor"]
    assert widths[1]["exponent"] == pytest.approx(widths[0]["exponent"], rel=0.2)


def test_one_seed_gives_the_same_law_twice() -> None:
    series = measure(FIVE, (0.2, 0.5, 0.05), np.random.default_rng(0))
    assert fit_scaling(series, 1) == fit_scaling(series, 1)
    assert fit_scaling(series, 1) != fit_scaling(series, 2)


@pytest.mark.parametrize("changes", [{"draws": 0}, {"seed": -1}])
def test_values_out_of_range_are_refused(changes: dict[str, int]) -> None:
    series = measure(FIVE, (0.2, 0.5, 0.05), np.random.default_rng(0))
    with pytest.raises(InputError, match=f"`{next(iter(changes))}` must be a whole number from"):
        fit_scaling(series, **changes)


@pytest.mark.parametrize(("sizes", "replicates"), [(FIVE[:2], 5), (FIVE, 1)])
def test_too_little_for_a_law(sizes: Sequence[int], replicates: int) -> None:
    series = measure(sizes, (0.2, 0.5, 0.05), np.random.default_rng(0), replicates)
    with pytest.raises(InputError, match=r"at least 3 sizes, and .* distil more sizes, or more"):
        fit_scaling(series)

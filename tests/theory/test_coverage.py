"""The coverage law fitted to configurations of a known population."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from law_data import FAMILY, FIVE, measure
from scipy import stats
from scipy.optimize import nnls

from sdc_ext.errors import InputError
from sdc_ext.theory.accuracies import Series
from sdc_ext.theory.coverage import Coverage, fit_coverage
from sdc_ext.theory.required import required_sizes, trend
from sdc_ext.theory.side_by_side import compare_coverage


def amplitudes(growth: float, count: int, random: np.random.Generator) -> np.ndarray:
    """Draws from a population whose worst of M is sqrt(1 + growth ln M) in the mean."""
    m, steps = np.arange(1, 33), np.linspace(0, 1, 400, endpoint=False)
    rises, _ = nnls(1 - steps ** m[:, None], np.sqrt(1 + growth * np.log(m)), maxiter=10**5)
    return (rises * (random.random((count, 1)) >= steps)).sum(1)


def cover(growth: float, count: int, random: np.random.Generator) -> list[Series]:
    return [
        measure(FIVE, (0.2 * a, 0.5, 0.05), random, 6, configuration=f"net{k}")
        for k, a in enumerate(amplitudes(growth, count, random))
    ]


def repeat_coverage(growth: float, repeats: int) -> list[Coverage]:
    random = np.random.default_rng(0)
    return [fit_coverage(cover(growth, 16, random), seed=k, draws=100) for k in range(repeats)]


def test_noise_alone_is_no_coverage_law() -> None:
    laws = repeat_coverage(0.0, 40)
    assert not any(law.claimed for law in laws)
    assert np.mean([law.growth[0] <= 0 <= law.growth[1] for law in laws]) >= 0.9
    # The plain worst of 16 means would be 1.76 standard errors of 0.006 too high.
    rise = [law.worst[-1][k] - law.worst[0][k] for law in laws for k in range(len(FIVE))]
    assert np.mean(rise) == pytest.approx(0, abs=0.001)


def test_growth_with_ln_m_is_recovered() -> None:
    laws = repeat_coverage(0.8, 60)
    assert np.mean([law.forms["log"].parameters["h"] for law in laws]) == pytest.approx(
        0.8, abs=0.15
    )
    covered = sum(law.growth[0] <= 0.8 <= law.growth[1] for law in laws)
    assert covered >= stats.binom.ppf(0.001, len(laws), 0.92)
    assert np.mean([law.claimed for law in laws]) > 0.8
    assert np.mean([law.best == "linear" for law in laws]) < 0.1


def test_the_worst_of_m_is_a_mean_over_all_choices() -> None:
    """Without noise, against a count of subsets."""
    gaps = np.array([0.1, 0.2, 0.3, 0.4])
    series = [
        Series(FAMILY, str(k), "gap", {s: {"a": g / s, "b": g / s} for s in FIVE}, 0.0)
        for k, g in enumerate(gaps)
    ]
    law = fit_coverage(series, draws=2)
    pairs = [max(a, b) for k, a in enumerate(gaps) for b in gaps[:k]]
    expected = np.outer([gaps.mean(), np.mean(pairs), 0.4], 1 / np.array(FIVE))
    np.testing.assert_allclose(law.worst, expected)


@pytest.mark.parametrize(
    "changes", [{"draws": 0}, {"seed": -1}, {"target": float("nan")}, {"target": 70}]
)
def test_values_out_of_range_are_refused(changes: dict[str, Any]) -> None:
    series = cover(0.0, 4, np.random.default_rng(0))
    for fit in (fit_coverage, partial(compare_coverage, series)):
        with pytest.raises(InputError, match=f"`{next(iter(changes))}` must be a (whole )?number"):
            fit(series, **changes)


def test_too_little_for_coverage() -> None:
    random = np.random.default_rng(0)
    with pytest.raises(InputError, match=r"^a coverage law needs at least 4 configurations, got 0"):
        fit_coverage([])
    with pytest.raises(InputError, match="needs two families, each with at least one series"):
        compare_coverage([], cover(0.0, 3, random))
    with pytest.raises(InputError, match=r"at least 4 configurations, got 3: evaluate .* more"):
        fit_coverage(cover(0.0, 3, random))
    lone = measure(FIVE[:2], (0.2, 0.5, 0.0), random, configuration="odd")
    with pytest.raises(InputError, match="that all 4 configurations share, got 2: evaluate the"):
        fit_coverage([*cover(0.0, 3, random), lone])
    error = Series(FAMILY, "odd", "error", lone.values, 0.0)
    with pytest.raises(InputError, match="odd has no networks trained on all real images"):
        fit_coverage([*cover(0.0, 3, random), error])


def test_required_sizes_are_interpolated_or_censored() -> None:
    sizes = np.array([10.0, 100.0, 1000.0])
    worst = np.array([[0.3, 0.2, 0.1], [0.5, 0.4, 0.3], [0.2, 0.1, 0.05]])
    inside, above, below = required_sizes(sizes, (1, 2, 4), worst, 0.25)
    assert (inside.images, inside.censored) == (pytest.approx(10**1.5), "none")
    assert (above.images, above.censored) == (1000, "above")
    assert (below.images, below.censored) == (10, "below")
    assert trend((inside, above, below), np.log) is None


@settings(deadline=None, max_examples=50)
@given(arrays(float, 5, elements=st.floats(0, 1)), st.floats(0.01, 0.99), st.floats(0, 0.5))
def test_a_harder_target_requires_no_fewer_images(
    values: np.ndarray, target: float, easier: float
) -> None:
    sizes = np.array(FIVE, float)
    (hard,) = required_sizes(sizes, (1,), values[None], target)
    (easy,) = required_sizes(sizes, (1,), values[None], target + easier)
    assert 10 <= easy.images <= hard.images + 1e-9 <= 1000 + 1e-6


def test_required_sizes_follow_their_trend() -> None:
    counts = (1, 2, 4, 8)
    sizes = np.geomspace(10, 10_000, 400)
    worst = np.array([0.05 + np.sqrt((1 + 0.8 * np.log(m)) / sizes) for m in counts])
    required = required_sizes(sizes, counts, worst, 0.15)
    line, straight = trend(required, np.log), trend(required, np.asarray)
    assert line is not None and straight is not None
    assert (line.slope, line.intercept) == pytest.approx((80, 100), rel=0.01)
    assert line.r_squared > 0.999 > straight.r_squared

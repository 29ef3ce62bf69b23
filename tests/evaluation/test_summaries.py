from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdc_ext.errors import InputError
from sdc_ext.evaluation.summaries import random_effects

# Thirteen trials of the BCG vaccine (Colditz et al., 1994): log risk ratios and variances.
BCG = [
    *((-0.8893, 0.3256), (-1.5854, 0.1946), (-1.3481, 0.4154), (-1.4416, 0.0200)),
    *((-0.2175, 0.0512), (-0.7861, 0.0069), (-1.6209, 0.2230), (0.0120, 0.0040)),
    *((-0.4694, 0.0564), (-1.3713, 0.0730), (-0.3394, 0.0124), (0.4459, 0.5325)),
    (-0.0173, 0.0714),
]
EFFECTS = st.lists(st.tuples(st.floats(-1, 1), st.floats(0.01, 1)), min_size=2, max_size=12)


def test_published_trials() -> None:
    """The values are those of the R package metafor (method PM, test knha)."""
    found = random_effects(*zip(*((y, v**0.5) for y, v in BCG), strict=True))
    assert found.tau**2 == pytest.approx(0.318, abs=5e-4)
    assert found.mean == pytest.approx(-0.715, abs=5e-4)
    assert found.i_squared == pytest.approx(0.921, abs=5e-4)
    assert found.interval == pytest.approx((-1.109, -0.321), abs=2e-3)
    assert found.n == 13


def test_two_equal_settings_by_hand() -> None:
    found = random_effects([0.2, 0.2], [0.1, 0.1])
    assert (found.mean, found.tau, found.i_squared) == (pytest.approx(0.2), 0, 0)
    assert found.prediction is None
    half = 12.7062 * 0.1 / 2**0.5  # t with 1 degree of freedom
    assert found.interval == pytest.approx((0.2 - half, 0.2 + half), rel=1e-5)


def test_with_equal_errors_tau_is_the_variance_beyond_theirs() -> None:
    effects, error = [0.1, 0.5, -0.3, 0.9], 0.2
    found = random_effects(effects, [error] * 4)
    assert found.tau**2 == pytest.approx(np.var(effects, ddof=1) - error**2)
    assert found.mean == pytest.approx(np.mean(effects))


@given(EFFECTS)
def test_summaries_are_sound(given_effects: list[tuple[float, float]]) -> None:
    effects, errors = zip(*given_effects, strict=True)
    found = random_effects(effects, errors)
    assert min(effects) - 1e-9 <= found.mean <= max(effects) + 1e-9
    assert 0 <= found.i_squared <= 1 and found.tau >= 0 and 0 <= found.p <= 1
    low, high = found.interval
    assert low <= found.mean <= high
    assert (found.p < 0.05) == (low > 0 or high < 0)
    if found.prediction is not None:
        assert found.prediction[0] <= low and high <= found.prediction[1]


def test_the_mean_effect_is_covered() -> None:
    draw = np.random.default_rng(0)
    covered = 0
    for _ in range(500):
        errors = draw.uniform(0.1, 0.5, 6)
        found = random_effects(draw.normal(1, 0.3, 6) + draw.normal(0, errors), errors)
        covered += found.interval[0] <= 1 <= found.interval[1]
    assert 0.93 <= covered / 500 <= 0.99


@pytest.mark.parametrize(
    ("effects", "errors"), [([1.0], [1.0]), ([1.0, 2.0], [1.0, 0.0]), ([1.0, 2.0], [1.0])]
)
def test_bad_input(effects: list[float], errors: list[float]) -> None:
    with pytest.raises(InputError, match="at least 2 effects, each with a standard error above 0"):
        random_effects(effects, errors)

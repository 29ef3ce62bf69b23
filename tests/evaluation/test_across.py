from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from sdc_ext.evaluation import Arm, Cell, Comparison, across_settings, random_effects
from sdc_ext.report.across import across_sentence

BASE, ONE, TWO = (Arm.of({"share": share}) for share in (0, 0.1, 0.2))


def comparison(**gains: Sequence[float]) -> Comparison:
    cells = [Cell(BASE, seed, (0.5,)) for seed in range(3)]
    for name, values in gains.items():
        arm = {"one": ONE, "two": TWO}[name]
        cells += [Cell(arm, seed, (0.5 + gain,)) for seed, gain in enumerate(values)]
    return Comparison(tuple(cells))


def test_each_arm_is_summarised_over_the_settings_that_have_it() -> None:
    a = comparison(one=(0.01, 0.02, 0.04), two=(0.0, 0.01, 0.01))
    b = comparison(one=(0.02, 0.01, 0.01))
    c = comparison(one=(0.0, -0.01, 0.01), two=(0.01, -0.01, 0.02))
    one, two = across_settings({"a": a, "b": b, "c": c})
    assert (one.arm, two.arm, one.base) == (ONE, TWO, BASE)
    assert list(one.gains) == ["a", "b", "c"] and list(two.gains) == ["a", "c"]
    found = [c.difference(ONE) for c in (a, b, c)]
    expected = random_effects([d.mean for d in found], [d.error for d in found])
    assert one.summary == expected
    assert one.p >= expected.p and max(one.p, two.p) <= 1
    assert json.loads(json.dumps(one.row(), allow_nan=False))["n"] == 3
    assert "differs between 3 settings" in across_sentence(one)


def test_settings_whose_differences_are_equal_are_left_out_and_named() -> None:
    a, b = comparison(one=(0.01, 0.02, 0.04)), comparison(one=(0.0, 0.0, 0.0))
    (one,) = across_settings({"a": a, "b": b})
    assert one.summary is None and one.left_out == ["b"] and one.p == 1
    assert across_sentence(one).endswith("Left out, since all differences are equal: b.")
    assert "mean" not in one.row()


def test_nothing_to_summarise() -> None:
    assert across_settings({}) == []
    assert across_settings({"a": comparison(one=(0.01, 0.02, 0.04))})[0].p == pytest.approx(1)

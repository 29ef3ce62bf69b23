"""The scores of the field, as fractions."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdc_ext.cli import main
from sdc_ext.errors import InputError
from sdc_ext.scores import (
    Scores,
    hard_label_recovery,
    improvement_over_random,
    label_robust_score,
)

fractions = st.floats(0, 1)


def test_example_of_dd_rankings_formulas() -> None:
    """Full 85 %, distilled 60 %, random 30 %: its released program, in percent, says 5.03."""
    scores = Scores.of(own=0.6, hard=0.6, random=0.3, full=0.85)
    assert (scores.hlr, scores.ior) == pytest.approx((0.25, 0.3))
    alpha = 0.5 * 0.3 - 0.5 * 0.25
    expected = (math.exp(alpha) - math.exp(-1)) / (math.e - math.exp(-1))
    assert scores.lrs == pytest.approx(expected)
    assert scores.lrs == pytest.approx(0.28, abs=0.005)


@given(own=fractions, hard=fractions, random=fractions, full=fractions)
def test_label_robust_score_is_a_fraction(
    own: float, hard: float, random: float, full: float
) -> None:
    assert 0 <= Scores.of(own=own, hard=hard, random=random, full=full).lrs <= 1


def test_label_robust_score_at_its_ends() -> None:
    assert label_robust_score(-1, 1) == pytest.approx(1)
    assert label_robust_score(1, -1) == pytest.approx(0)
    assert label_robust_score(1, 0.5, weight=1) == label_robust_score(0, 0.5, weight=1)


@pytest.mark.parametrize("percent", [85.0, -0.1, float("nan")])
def test_percent_is_refused(percent: float) -> None:
    with pytest.raises(InputError, match=r"must be a fraction in \[0, 1\]"):
        hard_label_recovery(percent, 0.5)
    with pytest.raises(InputError, match=r"must be a fraction in \[0, 1\]"):
        improvement_over_random(0.5, percent)


def test_score_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = tmp_path / "set"
    assert main(["select", "random", "--ipc", "5", "--out", str(chosen)]) == 0
    out = tmp_path / "scores.json"
    options = ["--network", "mlp", "--num-eval", "2", "--full-epochs", "3", "--out", str(out)]
    assert main(["score", str(chosen), *options]) == 0
    printed = capsys.readouterr().out
    assert "hard-label recovery (HLR)" in printed and "all real images" in printed
    scores = json.loads(out.read_text())
    # The set is what the random baseline of the same seed draws.
    assert scores["ior"] == pytest.approx(0, abs=1e-9)
    full = scores["accuracies"]["all real images"]
    hard = scores["accuracies"]["the set, hard labels"]
    assert scores["hlr"] == pytest.approx((sum(full) - sum(hard)) / 2)
    assert main(["score", str(chosen), *options]) == 2
    assert "scores.json exists: name another file" in capsys.readouterr().err

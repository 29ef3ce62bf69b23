"""Curves without their noise: running means and drifts."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdc_ext.cli import main
from sdc_ext.evaluation.tracking import Drift, running_mean


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=90))
def test_running_means_are_of_the_points_up_to_each(values: list[float]) -> None:
    skipped, means = running_mean(values)
    assert skipped + len(means) == len(values)
    for k, mean in enumerate(means):
        assert mean == pytest.approx(np.mean(values[k : k + skipped + 1]), abs=1e-9)


def test_skipped_iterations_are_left_out() -> None:
    values = [1.0] * 20 + [math.nan, 3.0] + [3.0] * 20
    _, means = running_mean(values)
    assert not np.isnan(means).any() and means[-1] == 3.0
    assert Drift.of([math.nan, 2.0, 3.0]) == Drift(2.0, 3.0)
    assert math.isnan(Drift.of([math.nan]).first)


def test_drifts_compare_the_first_and_the_last_tenth() -> None:
    drift = Drift.of([2.0] * 10 + [9.0] * 80 + [3.0] * 10)
    assert drift == Drift(2.0, 3.0)
    assert str(drift) == "2 → 3 (+50 %)"


def test_runs_tell_how_the_difficulty_drifted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = ["--network", "convnet:width=4:depth=1", "--batch-real", "8", "--iterations", "3"]
    evaluation = ["--num-eval", "1", "--epoch-eval-train", "1"]
    assert main(["distill", "dc", *tiny, *evaluation, "--out", str(tmp_path / "set")]) == 0
    assert "GraDN, first and last tenth" in capsys.readouterr().out
    assert main(["show", str(tmp_path / "set")]) == 0
    assert "GraDN, first and last tenth" in capsys.readouterr().out
    page = tmp_path / "page.html"
    assert main(["report", str(tmp_path), "--out", str(page)]) == 0
    text = page.read_text()
    assert "<th>GraDN</th>" in text and " → " in text

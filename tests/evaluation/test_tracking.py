"""Curves without their noise: running means and drifts."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from sdc_ext._files import as_table
from sdc_ext.cli import main
from sdc_ext.data.load import load_data
from sdc_ext.evaluation.tracking import Action, Drift, running_mean, warm_up
from sdc_ext.report.tables import tracking_table
from sdc_ext.sets.history import HISTORY
from sdc_ext.sets.info import SetInfo
from sdc_ext.sets.synthetic_set import SyntheticSet, class_labels
from sdc_ext.training.recipe import TrainingRecipe


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


# One norm a class in a warm-up of ten iterations, a single norm after it; nothing drifts.
STEP_DOWN = [11.0] * 10 + [1.8] * 90


def save_contrastive_run(folder: Path, difficulty: list[float]) -> SetInfo:
    """A set as DSAC leaves it, with the history of its run."""
    data, labels = load_data("digits"), class_labels(10, 1)
    settings = {"contrast": True, "outer_warmup": 10, "lam": 0.002}
    info = replace(
        SetInfo.of_data(data, labels, TrainingRecipe(1)),
        method="dsac",
        settings={name: {"value": v, "source": "a test"} for name, v in settings.items()},
    )
    SyntheticSet(torch.zeros(10, 1, 8, 8), labels, info).save(folder)
    others = {"loss": 1.0, "matching": 1.0}
    rows = [{"iteration": k, "difficulty": d, **others} for k, d in enumerate(difficulty)]
    as_table(rows)(folder / HISTORY)
    return info


def test_the_end_of_the_warm_up_is_no_drift(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    info = save_contrastive_run(tmp_path / "set", STEP_DOWN)
    assert main(["show", str(tmp_path / "set")]) == 0
    shown = capsys.readouterr().out
    assert "1.8 → 1.8 (+0 %)" in shown and "tenth after the warm-up" in shown

    page = tmp_path / "page.html"
    assert main(["report", str(tmp_path / "set"), "--out", str(page)]) == 0
    assert "after the warm-up: 1.8 to 1.8 with lam 0.002" in page.read_text()
    save_contrastive_run(tmp_path / "other", STEP_DOWN)
    both = [str(tmp_path / name) for name in ("set", "other")]
    assert main(["report", *both, "--out", str(tmp_path / "both.html")]) == 0
    assert "<td>1.8 → 1.8 (+0 %)</td>" in (tmp_path / "both.html").read_text()

    skip = warm_up(info, len(STEP_DOWN))
    tracked = {"an arm": [{"difficulty": STEP_DOWN}]}
    Console(width=200).print(tracking_table(tracked, {"an arm": skip}))
    compared = capsys.readouterr().out
    assert "1.8 → 1.8 (+0 %)" in compared and "after the warm-up" in compared


def test_runs_that_never_leave_the_warm_up_are_compared_throughout(tmp_path: Path) -> None:
    info = save_contrastive_run(tmp_path / "set", [2.0, 3.0])
    assert warm_up(info, 10) == 0 and warm_up(info, 11) == 10
    without = replace(info, settings={**info.settings, "contrast": {"value": False}})
    assert warm_up(without, 100) == warm_up(replace(info, settings={}), 100) == 0


def test_drifts_are_averaged_over_seeds() -> None:
    assert Drift.mean([Drift(1.0, 4.0), Drift(3.0, 6.0)]) == Drift(2.0, 5.0)
    assert Drift.of([math.inf, 9.0, 1.0, 2.0], skip=2) == Drift(1.0, 2.0)


def test_updates_without_a_correction_do_not_count_for_the_mean_share() -> None:
    """The lam of a share is unknown in the first image step of a TESLA script."""
    nan = math.nan
    history = {"lam": [0.0, 0.2, 0.4, nan], "share": [0.0, 0.1, 0.3, nan]}
    history["cosine"] = [0.9, 0.5, 0.7, nan]
    assert Action.of(history) == Action(*map(pytest.approx, (0.2, 0.6, 0.3)))
    assert Action.of({"lam": [0.0] * 2, "share": [0.0] * 2}).share == 0
    assert math.isnan(Action.of({"difficulty": [1.0]}).share)


def test_the_share_is_averaged_as_far_as_it_was_measured() -> None:
    history = {"lam": [0.1] * 3, "share": [math.nan, 0.1, 0.2], "cosine": [math.nan] * 3}
    action = Action.of(history)
    assert (action.lam, action.share) == pytest.approx((0.1, 0.15)) and math.isnan(action.cosine)

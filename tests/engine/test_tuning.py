"""The search for lam: halving, shared studies, and what it may look at."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import optuna
import pytest
import torch
from helpers import fork
from PIL import Image

from sdc_ext.cli import main
from sdc_ext.data.load import load_data
from sdc_ext.engine.tuning import Report, SearchSpace, Tuning, reached, rows, rungs
from sdc_ext.errors import DivergenceError, InputError

TINY = [
    *("dc", "--network", "convnet:width=8:depth=1", "--batch-real", "8", "--iterations", "3"),
    *("--num-eval", "1", "--epoch-eval-train", "2"),
]
TASK = {"method": "dc", "ipc": 1}


def open_study(storage: str = "sqlite:///study.db", **changes: Any) -> Tuning:
    options = {"task": TASK, "iterations": 9, "seed": 0, **changes}
    space = options.pop("space", SearchSpace(1e-4, 0.1))
    return Tuning.open(storage, "study", space, **options)


def climb(settings: Mapping[str, Any], report: Report) -> float:
    """A run whose accuracy grows with the iterations, towards a peak at lam 0.01."""
    lam = settings["lam"] if "lam" in settings else settings["lam_ramp"][0]
    peak = 1 - abs(torch.log10(torch.tensor(lam + 1e-9)) + 2).item() / 10
    for iteration in (1, 3, 9):
        report(iteration, peak * iteration / 10)
    return peak * 0.9


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_what_falls_behind_is_stopped_and_the_best_is_found() -> None:
    tuning = open_study()
    tuning.search(climb, 12, lambda trial: None)
    table = rows(tuning.finished(), 9)
    assert len(table) == 12
    done = [row for row in table if row["state"] == "complete"]
    stopped = [row for row in table if row["state"] == "pruned"]
    assert len(stopped) > len(done) > 0
    assert {row["iterations"] for row in done} == {9}
    assert max(row["iterations"] for row in stopped) < 9
    nearest = min(table, key=lambda row: abs(torch.log10(torch.tensor(row["lam"])) + 2))
    assert table[0] == nearest
    assert tuning.baseline == climb({"lam": 0.0}, lambda *_: None)


def test_stopped_study_goes_on_as_if_it_had_not_been() -> None:
    whole, stopped = (open_study(f"sqlite:///{name}.db") for name in ("whole", "stopped"))
    whole.search(climb, 8, lambda trial: None)
    stopped.search(climb, 3, lambda trial: None)
    open_study("sqlite:///stopped.db").search(climb, 8, lambda trial: None)
    assert rows(stopped.finished(), 9) == rows(whole.finished(), 9)
    open_study("sqlite:///stopped.db").search(climb, 8, lambda trial: pytest.fail("enough"))


def test_diverged_trial_fails_and_the_search_goes_on() -> None:
    def diverge(settings: Mapping[str, Any], report: Report) -> float:
        if settings["lam"] > 0.01:
            raise DivergenceError("loss is nan")
        return climb(settings, report)

    tuning = open_study()
    tuning.search(diverge, 6, lambda trial: None)
    table = rows(tuning.finished(), 9)
    failed = [row for row in table if row["state"] == "diverged"]
    assert {row["lam"] > 0.01 for row in failed} == {True}
    assert len(table) == 6 and table[0]["lam"] <= 0.01
    assert reached(tuning.finished()[-1]) == (0, None)


@pytest.mark.parametrize("of", ["lam", "share"])
def test_ramps_are_searched_when_asked_for(of: Literal["lam", "share"]) -> None:
    tuning = open_study(space=SearchSpace(1e-4, 0.1, ramp=True, of=of))
    tried: list[Mapping[str, Any]] = []

    def note(settings: Mapping[str, Any], report: Report) -> float:
        tried.append(settings)
        return 0.5

    tuning.search(note, 12, lambda trial: None)
    ramps = [settings[f"{of}_ramp"] for settings in tried if f"{of}_ramp" in settings]
    assert 0 < len(ramps) < 12
    for start, end, steps in ramps:
        assert start * 1.5 <= end <= start * 10 and 1 <= steps <= 9
    schedules = {row["schedule"] for row in rows(tuning.finished(), 9)}
    start, end, steps = ramps[0]
    assert f"--{of}-ramp {start:.3g} {end:.3g} {steps}" in schedules


def test_study_of_another_task_is_refused() -> None:
    open_study()
    with pytest.raises(InputError, match="study 'study' has ipc 1, not 10: use the same settings"):
        open_study(task={**TASK, "ipc": 10})


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (SearchSpace(1, 2), r"has range \[0.0001, 0.1\], not \[1, 2\]: use the same settings"),
        (SearchSpace(1e-4, 0.1, ramp=True), "has ramp False, not True"),
        (SearchSpace(1e-4, 0.1, of="share"), "has searched lam, not share"),
    ],
)
def test_study_of_another_range_is_refused(space: SearchSpace, message: str) -> None:
    task = open_study().study.user_attrs["task"]
    with pytest.raises(InputError, match=message):
        open_study(space=space)
    of_earlier = {key: value for key, value in task.items() if key not in ("range", "ramp")}
    open_study().study.set_user_attr("task", of_earlier)
    assert open_study().study.user_attrs["task"] == of_earlier


def test_storage_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match="cannot use the storage for study"):
        open_study("nonsense://x")


def test_an_error_of_a_storage_may_have_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> None:
        raise ValueError

    monkeypatch.setattr("sdc_ext.engine.tuning.optuna.create_study", refuse)
    with pytest.raises(InputError, match=r"study 'study' \(ValueError\): check `storage`"):
        open_study()


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.1, 0.1), (0.1, float("inf")), (-1, 1)])
def test_impossible_range_is_refused(low: float, high: float) -> None:
    with pytest.raises(InputError, match="searched between two numbers above 0"):
        SearchSpace(low, high)


def test_held_out_images_are_training_images_only() -> None:
    data = load_data("digits")
    held_out = data.held_out()
    assert len(held_out.train) + len(held_out.test) == len(data.train)
    both = torch.cat([held_out.train.images, held_out.test.images])

    def as_set(images: torch.Tensor) -> list[bytes]:
        return sorted(image.numpy().tobytes() for image in images)

    assert as_set(both) == as_set(data.train.images)
    assert set(held_out.test.labels.tolist()) == set(range(10))


@pytest.mark.parametrize("of", ["lam", "share"])
def test_command_leaves_study_table_and_picture(
    of: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["tune", *TINY, "--trials", "3", f"--{of}", "0.001", "0.1", "--out", "study"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "1010 training and 337 test images" in printed
    assert f"sdc-ext compare ... --{of} 0 0.0" in printed or f"no {of} did better" in printed
    with Path("study/trials.csv").open() as file:
        table = list(csv.DictReader(file))
    assert len(table) == 3
    assert all(0.001 <= float(row[of]) <= 0.1 for row in table)
    with Image.open("study/trials.png") as picture:
        assert picture.width > 100
    assert main(command) == 0  # nothing is left to do
    assert "trial 0" not in capsys.readouterr().out
    assert main([*command, "--iterations", "4"]) == 2
    assert "has iterations 3, not 4" in capsys.readouterr().err


def test_experts_that_have_seen_held_out_images_are_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["tune", "mtt", "--experts", "there"]) == 2
    assert "tune has no --experts, which belongs to distill, compare" in capsys.readouterr().err


def test_trajectories_come_from_the_other_training_images() -> None:
    command = ["tune", "mtt", "--network", "convnet:width=4:depth=1", "--iterations", "2"]
    command += ["--expert-epochs", "1", "--max-start-epoch", "1", "--syn-steps", "2"]
    command += ["--num-eval", "1", "--epoch-eval-train", "2", "--trials", "1", "--out", "study"]
    assert main(command) == 0
    assert len(list(Path("study/experts").iterdir())) == 1
    assert not Path("experts").exists()


def test_a_run_without_correction_that_is_missing_has_its_experts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["tune", "mtt", "--network", "convnet:width=4:depth=1", "--iterations", "2"]
    command += ["--expert-epochs", "1", "--max-start-epoch", "1", "--syn-steps", "2"]
    command += ["--num-eval", "1", "--epoch-eval-train", "2", "--trials", "1", "--out", "study"]
    with monkeypatch.context() as without:
        without.setattr(Tuning, "baseline", 0.5)
        assert main(command) == 0
    assert main(command) == 0
    assert "no lam did better" in capsys.readouterr().out
    study = optuna.load_study(study_name=None, storage="sqlite:///study/study.db")
    assert 0 < study.user_attrs["baseline"] < 1


def test_two_processes_share_a_study() -> None:
    command = ("tune", *TINY, "--trials", "4", "--storage", "sqlite:///shared.db", "--out")
    processes = fork((*command, "one"), (*command, "two"), folder=Path.cwd())
    assert [process.returncode for process in processes] == [0, 0]
    assert all("best:" in p.stdout or "no lam" in p.stdout for p in processes)
    tuning = Tuning.open(
        *("sqlite:///shared.db", "dc-digits-ipc1", SearchSpace(1e-4, 0.1), {}),
        iterations=3,
        seed=0,
    )
    lams = [trial.params["lam"] for trial in tuning.finished()]
    assert len(lams) >= 4 and len(set(lams)) == len(lams)


def test_without_optuna_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["tune", "dc"]) == 2
    assert "tune needs optuna: pip install 'sdc-ext[tune]'" in capsys.readouterr().err


def test_interrupted_trial_does_not_count() -> None:
    def interrupt(settings: Mapping[str, Any], report: Report) -> float:
        if settings["lam"] > 0:
            raise KeyboardInterrupt
        return 0.5

    tuning = open_study()
    with pytest.raises(KeyboardInterrupt):
        tuning.search(interrupt, 2, lambda trial: None)
    assert tuning.finished() == []
    tuning.search(climb, 2, lambda trial: None)
    assert len(tuning.finished()) == 2


@pytest.mark.parametrize(("iterations", "expected"), [(1000, [112, 336, 1000]), (3, [1, 3])])
def test_runs_are_tested_at_rungs_alone(iterations: int, expected: list[int]) -> None:
    assert rungs(iterations) == expected


def test_mistyped_network_leaves_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "dc", "--network", "convnot", "--out", "study"]) == 2
    assert "unknown network 'convnot'" in capsys.readouterr().err
    assert not Path("study").exists()


def test_a_storage_that_is_refused_leaves_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["tune", *TINY, "--trials", "1", "--storage"]
    assert main([*command, "nonsense://x", "--out", "study"]) == 2
    assert "check --storage" in capsys.readouterr().err
    assert list(Path().iterdir()) == []
    assert main([*command, "sqlite:///mine.db", "--out", "one"]) == 0
    assert main([*command, "sqlite:///mine.db", "--out", "two"]) == 0  # which is finished
    assert sorted(path.name for path in Path("two").iterdir()) == ["trials.csv", "trials.png"]


@pytest.mark.parametrize("seed", [4295, 2**40])
def test_any_seed_of_the_command_line_can_be_searched_with(seed: int) -> None:
    tuning = open_study(seed=seed)
    tuning.search(climb, 1, lambda trial: None)
    assert len(tuning.finished()) == 1


@pytest.mark.parametrize("name", ["a?b#c", "{x}%41 [y]"])
def test_a_folder_is_no_url(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", *TINY, "--trials", "1", "--out", name]) == 0
    assert {"study.db", "trials.csv"} <= {path.name for path in Path(name).iterdir()}
    assert [path.name for path in Path().iterdir()] == [name]
    assert f"trials.csv and trials.png in {name}" in capsys.readouterr().out

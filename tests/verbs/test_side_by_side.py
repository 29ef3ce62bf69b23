"""Verbs give the same bits whether one process computes everything or workers share it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import fork, launch
from torch import nn

import sdc_ext
from sdc_ext.data.load import load_data
from sdc_ext.data.real import RealData
from sdc_ext.sets import SyntheticSet

SMALL: dict[str, Any] = {
    "network": "convnet:depth=1:width=4",
    "iterations": 2,
    "num_eval": 3,
    "epoch_eval_train": 3,
    "batch_real": 8,
}


@pytest.fixture
def executor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadPoolExecutor]:
    """Cells travel to its threads as to other processes, whose start would take seconds."""
    monkeypatch.chdir(tmp_path)
    with ThreadPoolExecutor(2) as workers:
        yield workers


@pytest.fixture(scope="module")
def data() -> RealData:
    return load_data("digits")


def images(folder: Path) -> torch.Tensor:
    return SyntheticSet.load(folder).images


def my_network(in_chans: int, num_classes: int, img_size: tuple[int, int]) -> nn.Module:
    size = in_chans * img_size[0] * img_size[1]
    return nn.Sequential(nn.Flatten(), nn.Linear(size, num_classes))


def test_runs_of_a_comparison(executor: Any, data: RealData) -> None:
    alone = sdc_ext.compare("dc", data, seeds=2, out="alone", progress=False, **SMALL)
    shared = sdc_ext.compare(
        "dc", data, seeds=2, out="shared", workers=executor, progress=False, **SMALL
    )
    assert shared.comparison == alone.comparison
    for run in ("lam-0/seed-0", "lam-0.002/seed-1"):
        assert torch.equal(images(Path("alone", run)), images(Path("shared", run)))
    again = sdc_ext.compare(
        "dc", data, seeds=2, out="shared", workers=executor, progress=False, **SMALL
    )
    assert again.comparison == alone.comparison


def test_a_run_that_diverges_is_left_out(executor: Any, data: RealData) -> None:
    arms = [{"lam": 0}, {"lam": 0.002}, {"lam": 0, "lr_img": 1e30}]
    compared = sdc_ext.compare(
        "dc", data, arms=arms, seeds=2, workers=executor, progress=False, **SMALL
    )
    assert [arm.name for arm in compared.comparison.arms] == ["lam 0", "lam 0.002"]
    ((arm, why),) = compared.comparison.diverged.items()
    assert arm.name == "lam 0, lr_img 1e+30" and why.startswith("iteration ")
    assert f"{arm} diverged and is left out: {why}"[:60] in str(compared)
    row = json.loads((compared.out / "comparison.json").read_text())[2]
    assert (row["arm"], row["diverged"]) == (arm.name, why)


def test_networks_of_an_evaluation(executor: Any, data: RealData) -> None:
    made = sdc_ext.distill("dc", data, out="set", progress=False, **SMALL)
    options: dict[str, Any] = {"networks": [my_network, "mlp"], "num_eval": 3, "progress": False}
    options |= {"optimizers": ["sgd", "adamw"], "mix": "cutmix:p=0.5"}
    alone = sdc_ext.evaluate_set({"a": made, "b": "set"}, data, **options)
    shared = sdc_ext.evaluate_set({"a": made, "b": "set"}, data, workers=executor, **options)
    assert shared.results.rows() == alone.results.rows()
    assert [result.name for result in shared.results] == ["a"] * 4 + ["b"] * 4


def test_networks_of_scores(executor: Any, data: RealData) -> None:
    made = sdc_ext.distill("dc", data, out="set", progress=False, **SMALL)
    options: dict[str, Any] = {"num_eval": 2, "full_epochs": 1, "progress": False}
    alone = sdc_ext.score_set(made, data, **options)
    shared = sdc_ext.score_set(made, data, workers=executor, **options)
    assert shared.scored == alone.scored


def test_stacks_of_an_evaluation(executor: Any, data: RealData) -> None:
    made = sdc_ext.distill("dc", data, out="set", progress=False, **SMALL)
    networks = ["convnet:depth=1:width=4", "convnet:depth=1:width=4:norm=batch", my_network]
    options: dict[str, Any] = {"networks": networks, "num_eval": 3, "progress": False}
    alone = sdc_ext.evaluate_set(made, data, **options)
    for workers in (1, executor):
        stacked = sdc_ext.evaluate_set(made, data, stack=2, workers=workers, **options)
        for one, other in zip(alone.results, stacked.results, strict=True):
            assert one.evaluation.network == other.evaluation.network
            accuracies = one.evaluation.accuracies
            # An image on the edge may change sides with rounding.
            assert other.evaluation.accuracies == pytest.approx(accuracies, abs=0.005)


def test_processes_of_a_launch_share_stacks(tmp_path: Path, data: RealData) -> None:
    sdc_ext.distill("dc", data, out=tmp_path / "set", progress=False, **SMALL)
    command = ["evaluate", "set", "--num-eval", "3", "--epoch-eval-train", "3", "--stack", "2"]
    for processes in (1, 2):
        launch(processes, tmp_path, *command, "--out", f"of-{processes}")
    first, second = (Path(tmp_path, f"of-{n}", "accuracies.csv").read_text() for n in (1, 2))
    assert first == second and first.count("\n") == 4


def test_evaluations_of_a_run(executor: Any, data: RealData) -> None:
    alone = sdc_ext.distill("dc", data, out="alone", progress=False, **SMALL)
    shared = sdc_ext.distill("dc", data, out="shared", workers=executor, progress=False, **SMALL)
    assert shared.info.accuracies == alone.info.accuracies


def test_experts(executor: Any, data: RealData) -> None:
    options: dict[str, Any] = {"num_experts": 3, "train_epochs": 2, "progress": False}
    options["network"] = "convnet:depth=1:width=4"
    alone = sdc_ext.train_experts("mtt", data, out="alone", **options)
    shared = sdc_ext.train_experts("mtt", data, out="shared", workers=executor, **options)
    assert shared.accuracies() == alone.accuracies()
    assert torch.equal(shared.parameters(2, -1), alone.parameters(2, -1))


def test_trials_of_a_search(executor: Any, data: RealData) -> None:
    options: dict[str, Any] = {**SMALL, "trials": 3, "progress": False}
    alone = sdc_ext.tune("dc", data, out="alone", **options)
    shared = sdc_ext.tune("dc", data, out="shared", workers=executor, **options)
    assert shared.baseline == alone.baseline
    drawn = [sorted((row["trial"], row["lam"]) for row in one.trials) for one in (alone, shared)]
    assert drawn[0] == drawn[1] and len(drawn[0]) == 3


def test_networks_of_an_ensemble(executor: Any, data: RealData) -> None:
    options: dict[str, Any] = {"num_networks": 3, "train_epochs": 2, "per_class": 3}
    options |= {"epochs": [1, 2], "network": "mlp", "progress": False}
    alone = sdc_ext.difficulty_of((), data, **options)
    assert sdc_ext.difficulty_of((), data, workers=executor, **options).rows() == alone.rows()


def test_two_processes_from_the_command_line(tmp_path: Path) -> None:
    short = ["--network", "mlp", "--iterations", "2", "--num-eval", "1", "--epoch-eval-train", "2"]
    (done,) = fork(("compare", "dm", *short, "--seeds", "2", "--processes", "2"), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    alone = ["--seeds", "2", "--processes", "1", "--out", "alone"]
    (other,) = fork(("compare", "dm", *short, *alone), folder=tmp_path)
    assert other.returncode == 0, other.stderr
    shared = tmp_path / "runs" / "compare-dm-digits-ipc1"
    for run in ("lam-0/seed-0", "lam-0.002/seed-1"):
        assert torch.equal(images(tmp_path / "alone" / run), images(shared / run))
    made = [line.partition(":")[0] for line in done.stdout.splitlines() if line.startswith("run ")]
    assert sorted(made) == [f"run {k} of 4" for k in range(1, 5)]
    both = ("--processes", "2", "--executor", "dask:x")
    (refused,) = fork(("compare", "dm", *both), folder=tmp_path)
    assert refused.returncode == 2 and "not allowed with argument" in refused.stderr

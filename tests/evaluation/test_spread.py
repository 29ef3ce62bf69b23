"""Spreads over configurations, and the command that evaluates a grid of them."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import sdc_ext
from sdc_ext.cli import main
from sdc_ext.evaluation.spread import configuration_names, spreads
from sdc_ext.sets.info import Evaluation
from sdc_ext.training.recipe import TrainingRecipe


def result(name: str, network: str, accuracy: float, **recipe: Any) -> Any:
    evaluation = Evaluation(network, (accuracy - 0.01, accuracy + 0.01))
    return SimpleNamespace(name=name, evaluation=evaluation, recipe=TrainingRecipe(1, **recipe))


def read(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def test_worst_mean_and_spread() -> None:
    (found,) = spreads(
        [
            result("a", "mlp", 0.5),
            result("a", "mlp", 0.3, optimizer="adamw"),
            result("a", "convnet", 0.7),
            result("b", "mlp", 0.9),
        ]
    )
    assert (found.worst, found.best) == ("mlp, adamw", "convnet, sgd")
    assert (found.mean, found.std) == pytest.approx((0.5, 0.2))
    assert found.row() == {
        **{"set": "a", "configurations": 3, "worst": pytest.approx(0.3), "worst_at": "mlp, adamw"},
        **{"mean": pytest.approx(0.5), "best": pytest.approx(0.7), "best_at": "convnet, sgd"},
        "std": pytest.approx(0.2),
    }


def test_only_what_varies_for_one_set_is_part_of_the_name() -> None:
    """Sets that bring recipes of their own are not a grid."""
    own = [result("a", "mlp", 0.5), result("b", "mlp", 0.4, augmentation="color")]
    assert configuration_names(own) == ["mlp", "mlp"] and spreads(own) == []


def test_a_grid_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["select", "random", "--ipc", "2", "--out", "set"]) == 0
    few = ["--num-eval", "2", "--epoch-eval-train", "2", "--networks", "convnet:depth=1:width=4"]
    grid = [
        "--optimizers",
        "sgd,adamw",
        "--augmentations",
        "none,kornia:RandomAffine(degrees=(5,9))",
    ]
    recipe = ["--schedule", "cosine", "--mix", "cutmix:p=0.5"]
    assert main(["evaluate", "set", *few, *grid, *recipe, "--out", "plain"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "test accuracy % over configurations" in printed
    assert "recipe: each set's own recipe; optimizers sgd, adamw; schedule cosine" in printed
    rows = read(Path("plain/accuracies.csv"))
    assert len(rows) == 8 and {row["mix"] for row in rows} == {"cutmix:p=0.5"}
    assert {row["optimizer"] for row in rows} == {"sgd", "adamw"}
    (spread,) = read(Path("plain/configurations.csv"))
    assert spread["configurations"] == "4"
    assert Path("plain/accuracies.png").stat().st_size > 1000
    # Stacks are the same up to rounding, which may move an image of 450 over the border.
    assert main(["evaluate", "set", *few, *grid, *recipe, "--stack", "2", "--out", "stacked"]) == 0
    for one, other in zip(rows, read(Path("stacked/accuracies.csv")), strict=True):
        assert float(one["accuracy"]) == pytest.approx(float(other["accuracy"]), abs=0.005)


def test_a_protocol_from_python() -> None:
    made = sdc_ext.select_set("random", ipc=2)
    how: dict[str, Any] = {"networks": "mlp", "num_eval": 1, "epoch_eval_train": 2}
    alone = sdc_ext.evaluate_set({"a": made}, protocol="idc", progress=False, **how)
    assert "a: 2 epochs of sgd, learning rate 0.01 (multistep), batches of 64" in str(alone)

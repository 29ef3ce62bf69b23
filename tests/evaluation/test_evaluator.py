"""Evaluation: the originals' schedule, paired seeds, honest statistics."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from helpers import GOLDEN
from torch import Tensor, nn
from torch.optim import Optimizer

from sdc_ext.cli import main
from sdc_ext.data.load import load_data
from sdc_ext.data.real import RealData
from sdc_ext.errors import InputError
from sdc_ext.evaluation import evaluator
from sdc_ext.evaluation.evaluator import evaluate
from sdc_ext.sets.info import Evaluation
from sdc_ext.theory import collect, read_accuracies
from sdc_ext.training import recipe as module
from sdc_ext.training.gradients import BatchLoss
from sdc_ext.training.recipe import TrainingRecipe, train_from_scratch

SCHEDULES = json.loads((GOLDEN / "facts.json").read_text())["evaluate_synset_schedule"]["measured"]


@pytest.mark.parametrize("epochs", [4, 5, 10])
def test_schedule_is_the_originals(epochs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[dict[str, float]] = []
    optimizers: list[Optimizer] = []

    def train_epoch(network: nn.Module, optimizer: Optimizer, *args: Any, **kwargs: Any) -> None:
        group = optimizer.param_groups[0]
        if not optimizers or optimizers[-1] is not optimizer:
            optimizers.append(optimizer)
            names = ("lr", "momentum", "weight_decay")
            passes.append({**{name: group[name] for name in names}, "epochs": 0})
        passes[-1]["epochs"] += 1

    monkeypatch.setattr(module, "train_epoch", train_epoch)
    images, labels = torch.zeros(2, 1, 2, 2), torch.tensor([0, 1])
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    train_from_scratch(network, images, labels, TrainingRecipe(epochs), BatchLoss())
    assert passes == [
        {**expected, "lr": pytest.approx(expected["lr"])}
        for expected in SCHEDULES["DatasetCondensation"][f"epoch_eval_train={epochs}"]
    ]


def run(images: Tensor, labels: Tensor, data: RealData, **changes: Any) -> Evaluation:
    options = {"network": "mlp", "num_eval": 3, "seed": 0, **changes}
    recipe = TrainingRecipe(epochs=60)
    return evaluate(images, labels, data, recipe, accelerator=Accelerator(cpu=True), **options)


@pytest.fixture(scope="module")
def data() -> RealData:
    return load_data("digits")


def test_more_images_teach_more(data: RealData) -> None:
    images, labels = data.normalize(data.train.images), data.train.labels
    few, many = (run(images[:n], labels[:n], data).mean for n in (10, 400))
    assert 0.2 < few < many - 0.1


def test_networks_are_paired_across_sets(data: RealData) -> None:
    images, labels = data.normalize(data.train.images[:50]), data.train.labels[:50]
    first = run(images, labels, data)
    assert run(images, labels, data) == first
    assert run(images, labels, data, num_eval=2).accuracies == first.accuracies[:2]
    assert run(images, labels, data, seed=1).accuracies != first.accuracies


@pytest.mark.parametrize("augmentation", ["color_crop_flip", "dc:crop_scale_rotate"])
def test_stacks_have_the_accuracies_of_one_by_one(data: RealData, augmentation: str) -> None:
    images, labels = data.normalize(data.train.images[:50]), data.train.labels[:50]
    recipe = TrainingRecipe(epochs=20, lr=0.02, batch_size=32, augmentation=augmentation)
    counted: list[int] = []

    def accuracies(stack: int) -> tuple[float, ...]:
        return evaluate(
            *(images, labels, data, recipe),
            network="convnet:depth=1:width=4",
            num_eval=5,
            seed=0,
            accelerator=Accelerator(cpu=True),
            stack=stack,
            on_network=lambda: counted.append(stack),
        ).accuracies

    alone = accuracies(1)
    assert len(set(alone)) > 1
    for stack in (2, 5, 9):
        # An image on the edge may change sides with rounding.
        assert accuracies(stack) == pytest.approx(alone, abs=1.5 / len(data.test.labels))
        assert counted.count(stack) == 5


def test_what_cannot_be_stacked_is_trained_one_by_one(data: RealData) -> None:
    images, labels = data.normalize(data.train.images[:20]), data.train.labels[:20]
    said: list[str] = []
    network = "convnet:depth=1:width=4:norm=batch"
    stacked = run(images, labels, data, network=network, stack=3, say=said.append)
    assert stacked == run(images, labels, data, network=network)
    (line,) = said
    assert line.startswith(f"{network}: training changes its buffer")
    assert line.endswith("running_mean, so its networks are trained one by one")


def test_a_stack_that_does_not_fit_names_the_setting(
    data: RealData, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_out(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(evaluator, "train_stack", run_out)
    images, labels = data.normalize(data.train.images[:10]), data.train.labels[:10]
    with pytest.raises(InputError, match="lower `stack`, since 3 networks at once do not fit"):
        run(images, labels, data, stack=3)


def test_mean_and_population_deviation() -> None:
    evaluation = Evaluation("mlp", (0.5, 0.7))
    assert (evaluation.mean, evaluation.std) == pytest.approx((0.6, 0.1))
    assert str(evaluation) == "60.00 ± 10.00 %"


def test_all_real_images_are_evaluated_once_a_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = [tmp_path / name for name in ("a", "b")]
    for seed, folder in enumerate(sets):
        assert main(["select", "random", "--seed", str(seed), "--out", str(folder)]) == 0
    small = "convnet:width=4:depth=1,convnet:width=5:depth=1"
    options = ["--networks", small, "--num-eval", "1", "--epoch-eval-train", "1"]
    out = tmp_path / "out"
    arguments = ["evaluate", *map(str, sets), *options, "--real-epochs", "2", "--out", str(out)]
    assert main(arguments) == 0
    assert "all real images" in capsys.readouterr().out
    with (out / "accuracies.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    real = [row for row in rows if row["method"] == "real"]
    assert len(rows) == 6 and [row["network"] for row in real] == small.split(",")
    assert {(row["epochs"], row["images"], row["lr"]) for row in real} == {("2", "1347", "0.01")}
    assert all(row["epochs"] == "1" for row in rows if row["method"] == "random")


def test_real_images_are_evaluated_under_every_recipe(tmp_path: Path) -> None:
    for like in ("dc", "dm"):
        assert main(["select", "random", "--like", like, "--out", str(tmp_path / like)]) == 0
    small = ["--networks", "convnet:width=4:depth=1", "--num-eval", "1", "--epoch-eval-train", "1"]
    sets = [str(tmp_path / like) for like in ("dc", "dm")]
    out = tmp_path / "out"
    assert main(["evaluate", *sets, *small, "--real-epochs", "1", "--out", str(out)]) == 0
    rows = read_accuracies([out / "accuracies.csv"])
    assert len({row.augmentation for row in rows if row.method == "real"}) == 2
    assert [series.quantity for series in collect(rows)] == ["gap", "gap"]


def test_real_epochs_below_one_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["select", "random", "--out", str(tmp_path / "set")]) == 0
    assert main(["evaluate", str(tmp_path / "set"), "--real-epochs", "0"]) == 2
    assert "--real-epochs must be a whole number from 1" in capsys.readouterr().err

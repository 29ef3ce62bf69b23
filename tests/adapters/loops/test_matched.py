"""Measuring how hard the images are that a loop matches: what is measured, and what stays alone."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from unrolled import in_shares

from sdc_ext import distill
from sdc_ext._seeds import seed_torch
from sdc_ext.adapters.loops.matched import batch_difficulty, is_due
from sdc_ext.adapters.loops.steps import draw_batches
from sdc_ext.adapters.task import Task
from sdc_ext.augment.parse import parse_augmentation
from sdc_ext.cli import main
from sdc_ext.data.load import load_data
from sdc_ext.evaluation.difficulty import score_samples
from sdc_ext.matching.adjoints import Share
from sdc_ext.networks.create import create_network
from sdc_ext.sets.history import read_history

TINY: dict[str, Any] = {
    **{"network": "convnet:width=4:depth=1", "iterations": 3, "eval_every": 3},
    **{"num_eval": 1, "epoch_eval_train": 1, "progress": False},
}
BY_METHOD: dict[str, dict[str, Any]] = {
    "dc": {"batch_real": 70},
    "dsac": {"batch_real": 60, "inner_loop": 1, "outer_loop": 2},
    "dm": {"batch_real": 70},
    "datm": {"syn_steps": 20, "expert_epochs": 1, "max_start_epoch": 1, "batch_syn": 20},
}
_OF = ("gradn", "loss")


@pytest.fixture(scope="module")
def experts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "experts"
    arguments = ["--network", "convnet:width=4:depth=1", "--num-experts", "1"]
    assert main(["experts", "datm", *arguments, "--train-epochs", "2", "--out", str(folder)]) == 0
    return folder


@pytest.mark.parametrize("method", BY_METHOD)
def test_a_run_with_measures_has_the_bits_of_one_without(
    method: str, tmp_path: Path, experts: Path
) -> None:
    settings = TINY | BY_METHOD[method] | ({"experts": experts} if method == "datm" else {})
    found = {
        cost: distill(method, out=tmp_path / f"{cost}", ipc=2, measure_cost=cost, **settings)
        for cost in (0.0, 1.0)
    }
    assert torch.equal(found[0.0].images, found[1.0].images)
    without, measured = (read_history(tmp_path / f"{cost}") for cost in (0.0, 1.0))
    assert set(measured) - set(without) == {f"{k}_{m}" for k in ("real", "syn") for m in _OF}
    assert measured["matching"] == without["matching"]
    known = [v for v in measured["real_gradn"] if not math.isnan(v)]
    assert known and all(value > 0 for value in known)


@pytest.mark.parametrize("quantile", [None, 0.25])
def test_measures_are_means_over_the_first_matched_images_of_each_class(
    tmp_path: Path, quantile: float | None
) -> None:
    # The batch is large enough that a measure is due in the first iteration.
    settings = TINY | {"iterations": 1, "batch_real": 96, "measure_cost": 1.0, "init": "real"}
    easy = {} if quantile is None else {"tau_quantile": quantile}
    distill("dc", out=tmp_path / "set", **settings, **easy)
    row = {name: values[0] for name, values in read_history(tmp_path / "set").items()}
    # The same draws as in the run: its network, and the real images of each class in turn.
    data = load_data("digits")
    seed_torch(0, "iteration", 0)
    network = create_network("convnet:width=4:depth=1", *data.network_shape)
    rows = []
    for label, index in enumerate(data.indices_by_class()):
        images = data.normalize(data.train.images[index[torch.randperm(len(index))[:96]]])
        if quantile is not None:
            norms = score_samples(network, images, torch.full((96,), label)).gradn
            images = images[norms <= torch.quantile(norms, quantile)]
        rows.append(score_samples(network, images[:8], torch.full((8,), label)))
    assert row["real_gradn"] == pytest.approx(float(torch.cat([r.gradn for r in rows]).mean()))
    assert row["real_loss"] == pytest.approx(float(torch.cat([r.loss for r in rows]).mean()))
    assert row["syn_gradn"] > 0


def test_chosen_images_stand_beside_random_ones(tmp_path: Path) -> None:
    settings = TINY | {"batch_real": 96, "measure_cost": 1.0, "iterations": 1}
    distill("dc", out=tmp_path / "easy", tau_quantile=0.5, **settings)
    easy = read_history(tmp_path / "easy")
    assert easy["real_gradn"][0] < easy["drawn_gradn"][0]
    distill("dm", out=tmp_path / "near", sampling="representative", **settings)
    near = read_history(tmp_path / "near")
    pairs = zip(near["real_gradn"], near["drawn_gradn"], strict=True)
    assert any(real != drawn for real, drawn in pairs if not math.isnan(real))


class Loop:
    """What the interval of measures depends on."""

    def __init__(self, cost: float, work: int) -> None:
        self.measure_cost, self._work = cost, work

    def images_per_iteration(self, classes: int, ipc: int) -> int:
        del classes, ipc
        return self._work


class Ten:
    """A task of ten classes."""

    num_classes, ipc = 10, 1


@pytest.mark.parametrize("cost", [0.01, 0.2, 1.0])
@pytest.mark.parametrize("work", [50, 2570, 10**6])
def test_measures_take_no_more_than_their_part(cost: float, work: int) -> None:
    task: Any = Ten()
    iterations = 500
    due = sum(is_due(Loop(cost, work), task, k) for k in range(iterations))
    scored = 3 * 10 * 8 * 4
    assert due * scored <= cost * iterations * work
    most = min(iterations, cost * iterations * work / scored)
    assert due >= math.floor(most / 2)
    assert not any(is_due(Loop(0.0, work), task, k) for k in range(9))


def test_two_processes_measure_what_one_does() -> None:
    data = load_data("digits")
    torch.manual_seed(0)
    network = create_network("convnet:width=4:depth=1", *data.network_shape)
    task = Task(data, 2, "convnet:width=4:depth=1", Accelerator(cpu=True))
    batches = draw_batches(task, parse_augmentation("none"), 9)
    images = torch.randn(20, 1, 8, 8)
    one = batch_difficulty(network, images, batches, task, 0, chosen=True)

    def measure(index: int, share: Share) -> dict[str, float]:
        process = SimpleNamespace(process_index=index, num_processes=2)
        parts = {name: getattr(task, name) for name in ("real_images", "class_indices")}
        ours: Any = SimpleNamespace(accelerator=process, reduce=share.reduce, **parts)
        return batch_difficulty(network, images, batches, ours, 0, chosen=True)

    for found in in_shares(measure):
        assert found == pytest.approx(one, rel=1e-5)

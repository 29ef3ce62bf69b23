"""The scores of the field, as fractions."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sdc_ext import score_set, select_set
from sdc_ext.cli import main
from sdc_ext.data.load import load_data
from sdc_ext.data.real import RealData
from sdc_ext.errors import InputError
from sdc_ext.evaluation import scores
from sdc_ext.evaluation.scores import Scores
from sdc_ext.evaluation.selection import label_softly, random_like
from sdc_ext.sets.info import Evaluation, SetInfo
from sdc_ext.sets.synthetic_set import SyntheticSet, class_labels
from sdc_ext.training.recipe import OptimizerName, TrainingRecipe

fractions = st.floats(0, 1)

ROBUST = {
    "own_augmented": 0.6,
    "random_augmented": 0.3,
    "own_plain": 0.5,
    "random_plain": 0.4,
}


def test_example_of_dd_rankings_formulas() -> None:
    """Full 85 %, distilled 60 %, random 30 %: its released program, in percent, says 5.03."""
    scores = Scores.of(own=0.6, hard=0.6, random=0.3, full=0.85, **ROBUST)
    assert (scores.hlr, scores.ior) == pytest.approx((0.25, 0.3))
    alpha = 0.5 * 0.3 - 0.5 * 0.25
    expected = (math.exp(alpha) - math.exp(-1)) / (math.e - math.exp(-1))
    assert scores.lrs == pytest.approx(expected)
    assert scores.lrs == pytest.approx(0.28, abs=0.005)
    beta = 0.5 * (0.6 - 0.3) + 0.5 * (0.5 - 0.4)
    assert scores.ars == pytest.approx((math.exp(beta) - math.exp(-1)) / (math.e - math.exp(-1)))


@given(own=fractions, hard=fractions, random=fractions, full=fractions)
def test_robust_scores_are_fractions(own: float, hard: float, random: float, full: float) -> None:
    robust = {"own_augmented": own, "random_augmented": random}
    robust |= {"own_plain": hard, "random_plain": full}
    scores = Scores.of(own=own, hard=hard, random=random, full=full, **robust)
    assert 0 <= scores.lrs <= 1 and 0 <= scores.ars <= 1


def test_robust_scores_at_their_ends() -> None:
    best = {name: float(name.startswith(("own", "hard"))) for name in Scores.of.__annotations__}
    del best["return"]
    worst = {name: 1 - value for name, value in best.items()}
    high, low = Scores.of(**best), Scores.of(**worst)
    assert (high.lrs, high.ars) == pytest.approx((1, 1))
    assert (low.lrs, low.ars) == pytest.approx((0, 0))


@pytest.mark.parametrize("percent", [85.0, -0.1, float("nan")])
def test_percent_is_refused(percent: float) -> None:
    with pytest.raises(InputError, match=r"accuracy hard must be a fraction in \[0, 1\], got"):
        Scores.of(own=0.6, hard=percent, random=0.3, full=0.85, **ROBUST)
    with pytest.raises(InputError, match=r"accuracy own_plain must be a fraction"):
        Scores.of(own=0.6, hard=0.6, random=0.3, full=0.85, **{**ROBUST, "own_plain": percent})


def test_score_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = tmp_path / "set"
    assert main(["select", "random", "--ipc", "5", "--out", str(chosen)]) == 0
    made = SyntheticSet.load(chosen)  # whose 300 epochs would take long
    brief = replace(made.info, evaluation=replace(made.info.evaluation, epochs=20))
    replace(made, info=brief).save(chosen)
    out = tmp_path / "scores.json"
    options = ["--network", "mlp", "--num-eval", "2", "--full-epochs", "3", "--out", str(out)]
    assert main(["score", str(chosen), *options]) == 0
    printed = capsys.readouterr().out
    assert "hard-label recovery (HLR)" in printed and "all real images" in printed
    assert "augmentation-robust score (ARS)" in printed and "the set, augmented" in printed
    scores = json.loads(out.read_text())
    # The set is what the random baseline of the same seed draws.
    assert scores["ior"] == pytest.approx(0, abs=1e-9)
    assert scores["ars"] == pytest.approx(1 / (math.e + 1))  # no gain with or without augmentation
    accuracies = scores["accuracies"]
    assert accuracies["own_plain"] == accuracies["own"] != accuracies["own_augmented"]
    assert scores["seed"] == 0 and scores["full_epochs"] == 3
    full = scores["accuracies"]["full"]
    hard = scores["accuracies"]["hard"]
    assert scores["hlr"] == pytest.approx((sum(full) - sum(hard)) / 2)
    assert main(["score", str(chosen), *options]) == 2
    assert "scores.json exists: choose another --out" in capsys.readouterr().err


def test_soft_labels_alone_gain_nothing(tmp_path: Path) -> None:
    """Random images under a teacher's labels are compared with random images under these."""
    data = load_data("digits")
    chosen = random_like(class_labels(10, 5), data, seed=0)
    images = data.normalize(data.train.images[chosen])
    recipe = TrainingRecipe(20, lr=0.01)
    few, accelerator = replace(recipe, epochs=3), Accelerator(cpu=True)
    labels = label_softly(images, data, "mlp", few, seed=0, accelerator=accelerator)
    info = SetInfo("tesla", "digits", data.classes, data.mean, data.std, 5, "mlp", recipe)
    info = replace(info, settings={"labels": {"value": "teacher", "source": "TESLA"}})  # of ours
    SyntheticSet(images, labels, info).save(tmp_path / "set")
    out = tmp_path / "scores.json"
    options = ["--num-eval", "2", "--full-epochs", "3", "--out", str(out)]
    assert main(["score", str(tmp_path / "set"), *options]) == 0
    scores = json.loads(out.read_text())
    assert scores["accuracies"]["own"] == scores["accuracies"]["random"]
    assert scores["accuracies"]["own"] != scores["accuracies"]["hard"]


def test_random_images_are_as_many_of_each_class() -> None:
    data = load_data("digits")
    labels = torch.tensor([3, 3, 3, 0, 9])
    chosen = random_like(labels, data, seed=0)
    assert data.train.labels[chosen].tolist() == [0, 3, 3, 3, 9]
    with pytest.raises(InputError, match=r"class '1' has .* real images, fewer than .* 5000"):
        random_like(torch.ones(5000, dtype=torch.int64), data, seed=0)


@pytest.mark.parametrize(("optimizer", "usual"), [("sgd", 0.01), ("adamw", 0.001)])
def test_real_images_are_trained_on_at_the_optimisers_usual_rate(
    optimizer: OptimizerName, usual: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = TrainingRecipe(1, lr=0.3, optimizer=optimizer)
    random = select_set("random", progress=False)
    made = replace(random, info=replace(random.info, evaluation=recipe))
    rates = []

    def noting(
        images: Tensor, labels: Tensor, data: RealData, recipe: TrainingRecipe, **options: Any
    ) -> Evaluation:
        rates.append(recipe.lr)
        return Evaluation("mlp", (0.5,))

    monkeypatch.setattr(scores, "evaluate", noting)
    score_set(made, network="mlp", num_eval=1, full_epochs=1, progress=False)
    assert rates[:3] == [0.3, usual, usual]  # the set, random images, all real images

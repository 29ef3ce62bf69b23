"""A learning rate that diverges is met with a line that shows it, and others cost nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sdc_ext.cli import main
from sdc_ext.data import load_data
from sdc_ext.evaluation.divergence import divergence
from sdc_ext.sets import SetInfo, SyntheticSet
from sdc_ext.training import TrainingRecipe


@pytest.fixture
def synthetic() -> SyntheticSet:
    data = load_data("digits")
    index = torch.stack([own[0] for own in data.indices_by_class()])
    recipe = TrainingRecipe(2)
    info = SetInfo.of_data(data, data.train.labels[index], recipe)
    images = data.normalize(data.train.images[index])
    return SyntheticSet(images, data.train.labels[index], replace(info, network="mlp"))


def test_rates_that_diverge_are_shown(synthetic: SyntheticSet) -> None:
    state = torch.get_rng_state()
    line = divergence(synthetic, "mlp", TrainingRecipe(2, lr=50.0))
    assert line is not None and line.startswith("the learning rate 50 is too high for mlp: in ")
    assert torch.equal(torch.get_rng_state(), state)
    for recipe in (TrainingRecipe(2), TrainingRecipe(2, lr=50.0, optimizer="adamw")):
        assert divergence(synthetic, "mlp", recipe) is None


def test_all_classes_are_looked_at(synthetic: SyntheticSet) -> None:
    # The first 256 images are of one class: on these alone no rate diverges.
    images = torch.cat([synthetic.images[:1].expand(256, *synthetic.images.shape[1:])] * 2)
    images[256:] = -images[256:]
    labels = torch.tensor([0, 1]).repeat_interleave(256)
    two = replace(synthetic, images=images, labels=labels)
    assert divergence(two, "mlp", TrainingRecipe(2, lr=50.0)) is not None


def test_evaluation_says_so_and_obeys(
    synthetic: SyntheticSet,
    tmp_path: object,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(str(tmp_path))
    synthetic.save("set")
    command = ["evaluate", "set", "--num-eval", "1", "--lr-eval", "50", "--out", "out"]
    assert main(command) == 0
    assert "the learning rate 50 is too high for mlp" in capfd.readouterr().out
    assert "trained with a learning rate of 50, as you say, although" in caplog.text

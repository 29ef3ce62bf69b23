"""What is known of a set: corrections as values, and what the data say."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch

from sdc_ext.data.load import load_data
from sdc_ext.errors import InputError
from sdc_ext.sets.info import UNKNOWN, Correction, Evaluation, SetInfo
from sdc_ext.training.recipe import TrainingRecipe


def info(**values: Any) -> SetInfo:
    settings = {name: {"value": value, "source": "test"} for name, value in values.items()}
    recipe = TrainingRecipe(epochs=3)
    return SetInfo("dc", "digits", ("0", "1"), (0.0,), (1.0,), 1, "mlp", recipe, settings)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "lam unknown"),
        ({"lam": 0.002, "lam_ramp": None}, "lam 0.002"),
        ({"lam": 0.002, "lam_ramp": (0.1, 0.2, 30)}, "lam 0.1 to 0.2 in 30"),
        ({"lam": 0.0, "tau": 3.0}, "lam 0, tau 3"),
        ({"lam": 0.5, "tau_quantile": 0.25}, "lam 0.5, tau at quantile 0.25"),
    ],
)
def test_correction_survives_the_disk_and_says_what_it_is(
    values: dict[str, Any], words: str
) -> None:
    ours = info(**values)
    back = SetInfo.from_json(ours.to_json())
    assert back.correction == ours.correction
    assert hash(back.correction) == hash(ours.correction)
    assert str(back.correction) == words


def test_recipes_of_earlier_versions_are_the_default_ones() -> None:
    content = json.loads(info().to_json())
    for name in ("optimizer", "schedule", "mix", "label_loss", "temperature"):
        del content["evaluation"][name]
    assert SetInfo.from_json(json.dumps(content)) == info()


@pytest.mark.parametrize(
    ("name", "value"),
    [("optimizer", "lbfgs"), ("schedule", 3), ("mix", "cut"), ("temperature", 0)],
)
def test_recipes_that_cannot_be_followed_are_refused(name: str, value: object) -> None:
    content = json.loads(info().to_json())
    content["evaluation"][name] = value
    with pytest.raises(InputError, match=f"meta.json is damaged .*{name}"):
        SetInfo.from_json(json.dumps(content))


def test_corrections_differ_where_their_words_do_not() -> None:
    near = Correction(lam=0.1), Correction(lam=0.1 + 1e-9)
    assert str(near[0]) == str(near[1]) and near[0] != near[1]


def test_data_say_what_a_set_does_not() -> None:
    data, recipe = load_data("digits"), TrainingRecipe(epochs=3)
    known = SetInfo.of_data(data, torch.tensor([0, 1, 1]), recipe)
    assert (known.method, known.dataset, known.ipc) == (UNKNOWN, "digits", 2)
    assert (known.mean, known.std, known.whitening) == (data.mean, data.std, None)
    large = replace(data, train=replace(data.train, images=torch.zeros(1, 1, 64, 64)))
    assert SetInfo.of_data(large, torch.tensor([0]), recipe).network == "convnet:depth=4"


def test_rows_of_settings_and_evaluations_are_read_into_their_types() -> None:
    row = Evaluation("mlp", (0.5, 0.75)).row(3, "ema")
    ours = replace(info(lam=0.5, lam_ramp=None, experts={"n": [1]}), accuracies=(row,))
    assert SetInfo.from_json(ours.to_json()) == ours
    for field, damaged in (
        ("settings", {"lam": {"value": 0.5}}),
        ("settings", {"lam": 0.5}),
        ("accuracies", [{**row, "mean": "high"}]),
        ("accuracies", [{"mean": 0.5}]),
    ):
        content = json.loads(ours.to_json()) | {field: damaged}
        with pytest.raises(InputError, match=rf"meta.json is damaged \({field}\[.*\]"):
            SetInfo.from_json(json.dumps(content))

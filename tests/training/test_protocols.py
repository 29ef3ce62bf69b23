"""Protocols have the numbers of the evaluators that they are named after."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from sdc_ext.augment.mix import parse_mix
from sdc_ext.augment.parse import parse_augmentation
from sdc_ext.errors import InputError
from sdc_ext.training.protocols import PROTOCOLS, Subject, protocol
from sdc_ext.training.recipe import TrainingRecipe

SGD = {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 0.0005}
STEP = {"schedule": "step", "batch_size": 256, "mix": "none"}
ALL = "color_crop_cutout_flip_scale_rotate"
DIGITS = "color_crop_cutout_scale_rotate"
IDC = {"schedule": "multistep", "batch_size": 64, "epochs": 1000, "lr": 0.01}


@pytest.mark.parametrize(
    ("name", "subject", "expected"),
    [
        ("dc", Subject("cifar10"), {"epochs": 300, "augmentation": "none", **STEP}),
        ("dc", Subject("mnist"), {"epochs": 1000, "augmentation": "dc:crop_scale_rotate"}),
        ("dc", Subject("mnist", network="convnet:norm=batch"), {"augmentation": "dc:crop_noise"}),
        (
            "dc",
            Subject("cifar10", "dsa", lr=0.3),
            {"epochs": 1000, "augmentation": ALL, "lr": 0.01},
        ),
        ("dc", Subject("svhn", "dm"), {"augmentation": DIGITS, "align_corners": False}),
        ("mtt", Subject("cifar10", lr=0.03), {"lr": 0.03, "augmentation": ALL, **STEP}),
        ("mtt", Subject("mnist"), {"epochs": 1000, "augmentation": ALL, "align_corners": True}),
        ("ddranking", Subject("cifar10", "datm", lr=0.02), {"lr": 0.02, "schedule": "halfway"}),
        ("ddranking", Subject("cifar10", "dm"), {"epochs": 1000, "augmentation": ALL}),
        ("ddranking", Subject("cifar10", "dc"), {"augmentation": "none", "batch_size": 256}),
        ("idc", Subject("cifar10"), {"augmentation": "idc:color_crop_flip_scale_rotate", **IDC}),
        ("idc", Subject("fashionmnist"), {"mix": "cutmix:p=0.5", "align_corners": False}),
        ("idc", Subject("mnist"), {"augmentation": "idc:color_crop_scale_rotate", **IDC}),
        ("idc", Subject("mnist", factor=2), {"mix": "none"}),
        ("idc", Subject("svhn", ipc=1), {"augmentation": f"idc:{DIGITS}", "mix": "none"}),
    ],
)
def test_values(name: Any, subject: Subject, expected: dict[str, object]) -> None:
    found = asdict(protocol(name, subject))
    assert {key: found[key] for key in (*SGD, *expected)} == SGD | expected


def test_unknown_protocols_are_refused() -> None:
    with pytest.raises(InputError, match="protocol"):
        protocol("sre2l", Subject("cifar10"))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", list(PROTOCOLS))
def test_all_that_protocols_name_exists(name: Any) -> None:
    recipe = protocol(name, Subject("cifar10", "dsa"))
    assert isinstance(recipe, TrainingRecipe)
    parse_augmentation(recipe.augmentation)
    parse_mix(recipe.mix)

"""Recipes: the originals' defaults and the paper's tables, and what overrides them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from conftest import GOLDEN
from hypothesis import given
from hypothesis import strategies as st

from sdc_ext.adapters import METHODS, get_method
from sdc_ext.adapters.settings import Settings, resolve
from sdc_ext.errors import InputError

FACTS: dict[str, Any] = json.loads((GOLDEN / "facts.json").read_text())


def settle(method: str, dataset: str = "cifar10", ipc: int = 1, **overrides: Any) -> Settings:
    return resolve(get_method(method), dataset, ipc, overrides)


def value(settings: Settings, name: str) -> Any:
    return settings.origin[name].value


def test_gradient_matching_family_is_there() -> None:
    assert {"dc", "dsa", "dcc", "dsac"} <= set(METHODS)


@pytest.mark.parametrize("ipc", [1, 10, 20, 30, 40, 50])
@pytest.mark.parametrize(("method", "script"), [("dc", "DC"), ("dsac", "DCC")])
def test_loop_counts_are_the_originals(method: str, script: str, ipc: int) -> None:
    settings = settle(method, ipc=ipc)
    ours = [value(settings, "outer_loop"), value(settings, "inner_loop")]
    assert ours == FACTS["get_loops"][script][str(ipc)]
    assert settings.origin["outer_loop"].source == f"{script} get_loops"


@given(ipc=st.integers(1, 300), method=st.sampled_from(sorted(METHODS)))
def test_any_ipc_has_loop_counts_between_its_neighbours(ipc: int, method: str) -> None:
    settings, more = settle(method, ipc=ipc), settle(method, ipc=ipc + 1)
    assert 1 <= value(settings, "outer_loop") <= value(more, "outer_loop") <= max(10, ipc + 1)
    assert 1 <= value(settings, "inner_loop") <= 50
    if ipc not in (1, 10, 20, 30, 40, 50):
        assert "interpolated" in settings.origin["outer_loop"].source


@pytest.mark.parametrize(
    ("method", "dataset", "ipc", "lam"),
    [
        ("dc", "mnist", 1, 0.001),
        ("dc", "fashionmnist", 50, 0.01),
        ("dsa", "mnist", 10, 0.00002),
        ("dsa", "svhn", 1, 0.005),
        ("dsac", "fashionmnist", 1, 0.002),
        ("dsac", "svhn", 50, 0.02),
    ],
)
def test_lam_is_the_papers(method: str, dataset: str, ipc: int, lam: float) -> None:
    setting = settle(method, dataset, ipc).origin["lam"]
    assert (setting.value, setting.source) == (lam, "SDC paper, Table 4")


def test_lam_elsewhere_is_the_papers_default() -> None:
    setting = settle("dcc", "mnist").origin["lam"]
    assert (setting.value, setting.source) == (0.002, "SDC paper, Section 4.3")


@pytest.mark.parametrize(
    ("method", "dataset", "strategy", "augmentation", "epochs"),
    [
        ("dc", "cifar10", "none", "none", 300),
        ("dc", "mnist", "none", "dc:crop_scale_rotate", 1000),
        ("dcc", "mnist", "none", "dc:crop_scale_rotate", 1000),
        ("dsa", "mnist", *["color_crop_cutout_scale_rotate"] * 2, 1000),
        ("dsac", "svhn", *["color_crop_cutout_scale_rotate"] * 2, 1000),
        ("dsa", "cifar10", *["color_crop_cutout_flip_scale_rotate"] * 2, 1000),
    ],
)
def test_augmentation_and_epochs_are_the_originals(
    method: str, dataset: str, strategy: str, augmentation: str, epochs: int
) -> None:
    settings = settle(method, dataset)
    assert value(settings, "dsa_strategy") == strategy
    assert value(settings, "eval_augmentation") == augmentation
    assert value(settings, "epoch_eval_train") == epochs


def test_evaluation_follows_an_overridden_strategy() -> None:
    settings = settle("dsa", dsa_strategy="crop")
    assert value(settings, "eval_augmentation") == "crop"
    settings = settle("dsa", dsa_strategy="crop", eval_augmentation="none", epoch_eval_train=7)
    assert value(settings, "eval_augmentation") == "none"
    assert value(settings, "epoch_eval_train") == 7


@pytest.mark.parametrize(("method", "init"), [("dc", "noise"), ("dsa", "real"), ("dcc", "real")])
def test_initial_images_are_the_originals(method: str, init: str) -> None:
    assert value(settle(method), "init") == init


def test_contrast_begins_after_a_quarter_of_a_shorter_run() -> None:
    assert value(settle("dcc"), "outer_warmup") == 250
    assert value(settle("dcc", iterations=40), "outer_warmup") == 10
    assert value(settle("dcc", iterations=40, outer_warmup=3), "outer_warmup") == 3


def test_statistics_differ_between_the_originals() -> None:
    assert value(settle("dc", "cifar100"), "statistics") == "own"
    assert value(settle("dcc", "cifar100"), "statistics") == "cifar10"


def test_overrides_win_and_say_so() -> None:
    settings = settle("dc", "mnist", lam=0.5, lr_img=2.0)
    assert settings.run.lam == 0.5
    assert settings.origin["lam"].source == settings.origin["lr_img"].source == "your choice"


def test_unknown_setting_is_refused() -> None:
    with pytest.raises(InputError, match="unknown setting 'lr_image': did you mean 'lr_img'"):
        settle("dc", lr_image=1.0)


def test_unknown_method_is_refused() -> None:
    with pytest.raises(InputError, match="unknown method 'dsaa': did you mean 'dsa'"):
        get_method("dsaa")

"""Recipes: the originals' defaults and the paper's tables, and what overrides them."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import pytest
from helpers import GOLDEN, Golden
from hypothesis import given
from hypothesis import strategies as st

from sdc_ext.adapters import METHODS, Method, find_method, get_method, register_method
from sdc_ext.adapters.loops.gradient import GradientMatching
from sdc_ext.adapters.loops.trajectory import TrajectoryMatching
from sdc_ext.adapters.settings import Settings, resolve
from sdc_ext.errors import InputError
from sdc_ext.strength import STRENGTHS

FACTS: dict[str, Any] = json.loads((GOLDEN / "facts.json").read_text())


def settle(method: str, dataset: str = "cifar10", ipc: int = 1, **overrides: Any) -> Settings:
    return resolve(get_method(method), dataset, ipc, overrides)


def value(settings: Settings, name: str) -> Any:
    return settings.origin[name].value


def test_all_families_are_there() -> None:
    assert set(METHODS.names()) == {"dc", "dsa", "dcc", "dsac", "dm", "mtt", "ftd", "tesla", "datm"}


def test_distribution_matching_has_the_originals_defaults() -> None:
    settings = settle("dm")
    expected = {"iterations": 20_000, "eval_every": 2000, "epoch_eval_train": 1000, "lr_img": 1.0}
    assert {name: value(settings, name) for name in expected} == expected
    assert value(settings, "batch_real") == 256 and value(settings, "init") == "real"
    assert value(settle("dm", ipc=200), "lr_img") == 10.0
    assert value(settle("dm", "cifar100", 100), "lr_img") == 1.0


@pytest.mark.parametrize("ipc", [1, 10, 20, 30, 40, 50])
@pytest.mark.parametrize(("method", "script"), [("dc", "DC"), ("dsac", "DCC")])
def test_loop_counts_are_the_originals(method: str, script: str, ipc: int) -> None:
    settings = settle(method, ipc=ipc)
    ours = [value(settings, "outer_loop"), value(settings, "inner_loop")]
    assert ours == FACTS["get_loops"][script][str(ipc)]
    assert settings.origin["outer_loop"].source == f"{script} get_loops"


@given(ipc=st.integers(1, 300), method=st.sampled_from(["dc", "dsa", "dcc", "dsac"]))
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


@pytest.mark.parametrize("choices", [{"share": 0.3}, {"lam_ramp": (0.02, 0.08, 10)}])
@pytest.mark.parametrize(
    ("overrides", "strength", "weight"),
    [
        ({"lam": 0.5}, "lam", 0.5),
        ({"lam": 0.0}, "lam", 0.0),
        ({"share": 0.1}, "share", 0.1),
        ({"lam_ramp": (0.1, 0.2, 3)}, "lam_ramp", (0.1, 0.2, 3)),
        ({"share_ramp": (0.1, 0.2, 3)}, "share_ramp", (0.1, 0.2, 3)),
        ({"tau": 5.0}, "lam", 0.0),
        ({"tau": 5.0, "share": 0.1}, "share", 0.1),
    ],
)
def test_a_strength_replaces_the_methods_own(
    choices: dict[str, Any], overrides: dict[str, Any], strength: str, weight: Any
) -> None:
    method = replace(get_method("dsa"), name="mine", choices=choices)
    settings = resolve(method, "cifar10", 1, overrides)
    assert settings.run.strength == strength
    assert getattr(settings.run, strength) == weight
    assert value(settings, strength) == weight
    kept = [name for name in STRENGTHS[1:] if value(settings, name) is not None]
    assert kept == [name for name in STRENGTHS[1:] if name == strength]


def test_a_methods_own_strength_stays_where_none_is_chosen() -> None:
    method = replace(get_method("dsa"), name="mine", choices={"share": 0.3})
    assert resolve(method, "cifar10", 1, {}).run.strength == "share"


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


@pytest.mark.parametrize(
    ("method", "dataset", "ipc", "expected", "source"),
    [
        ("mtt", "cifar10", 10, {"lr_lr": 1e-4, "zca": True, "lam": 0.02}, "SDC paper, Table 5"),
        ("mtt", "cifar100", 50, {"batch_syn": 125, "syn_steps": 80}, "SDC paper, Table 5"),
        ("mtt", "tinyimagenet", 10, {"num_eval": 3, "eval_every": 200}, "SDC paper, Table 5"),
        ("tesla", "cifar10", 50, {"expert_epochs": 3, "zca": False}, "SDC paper, Table 6"),
        (
            *("ftd", "tinyimagenet", 10),
            {"syn_steps": 20, "max_start_epoch": 40, "batch_syn": 200, "lr_img": 1e4, "zca": False},
            "as MTT, SDC paper, Table 5 (FTD issue 3)",
        ),
        ("ftd", "tinyimagenet", 1, {"ema_decay": 0.999}, "FTD issue 3"),
        ("ftd", "tinyimagenet", 1, {"lam": 0.002}, "SDC paper, Section 4.3"),
        ("ftd", "cifar10", 1, {"ema_decay": 0.9999, "max_start_epoch": 2}, "SDC paper, Table 7"),
        ("datm", "tinyimagenet", 1, {"syn_steps": 60, "lr_img": 1e4}, "SDC paper, Table 8"),
        ("datm", "cifar10", 1, {"threshold": 1.1, "lr_lr": 1e-7}, "DATM configs"),
    ],
)
def test_trajectory_recipes_are_the_papers(
    method: str, dataset: str, ipc: int, expected: dict[str, Any], source: str
) -> None:
    origin = settle(method, dataset, ipc).origin
    for name, wanted in expected.items():
        assert (origin[name].value, origin[name].source) == (wanted, source)


def test_teslas_image_rate_is_the_tables_for_a_halved_gradient() -> None:
    setting = settle("tesla", "cifar10", 1).origin["lr_img"]
    assert setting.value == 50
    assert setting.source == "SDC paper, Table 6, halved as the original's gradient"


def test_datms_start_epochs_grow_as_in_the_original() -> None:
    case = Golden("datm_upper_bound")
    for config, bounds in zip(case["configs"].tolist(), case["upper_bound"].tolist(), strict=True):
        sequential, first, last, end, least = config
        loop = TrajectoryMatching(
            min_start_epoch=least,
            current_max_start_epoch=first,
            max_start_epoch=last,
            expansion_end_epoch=end if sequential else 0,
        )
        assert [loop.upper_bound(t) for t in case["iterations"].tolist()] == bounds


@given(iteration=st.integers(0, 20_000), last=st.integers(1, 40))
def test_start_epochs_never_run_out(iteration: int, last: int) -> None:
    loop = settle("datm", "digits", max_start_epoch=last).loop
    assert isinstance(loop, TrajectoryMatching)
    assert 1 <= loop.upper_bound(iteration) <= last


@pytest.mark.parametrize("method", ["mtt", "ftd", "tesla", "datm"])
def test_few_images_of_ones_own_have_the_rates_of_the_digits(method: str) -> None:
    rates = ("lr_img", "lr_lr")

    def of(dataset: str, images: int, **chosen: float) -> list[object]:
        settings = resolve(get_method(method), dataset, 1, chosen, images=images)
        return [settings.origin[name].value for name in rates]

    digits = [settle(method, "digits").origin[name].value for name in rates]
    assert of("imagefolder", 150) == of("digits", 150) == digits
    assert of("imagefolder", 150, lr_img=7.0) == [7.0, digits[1]]
    for dataset, images in (("imagefolder", 2000), ("cifar10", 150)):
        usual = settle(method, dataset).origin
        assert of(dataset, images) == [usual[name].value for name in rates]


@pytest.mark.parametrize("method", METHODS.names())
def test_small_images_of_ones_own_have_the_settings_of_the_digits(method: str) -> None:
    def of(dataset: str, side: int) -> dict[str, Any]:
        settings = resolve(get_method(method), dataset, 1, {}, images=1347, image_size=(side, side))
        augmentations = ("dsa_strategy", "eval_augmentation")  # digits are not mirrored
        return {n: s.value for n, s in settings.origin.items() if n not in augmentations}

    assert of("imagefolder", 8) == of("custom", 15) == of("digits", 8)
    assert of("imagefolder", 16)["network"] == of("cifar10", 8)["network"] == "convnet"


@pytest.mark.parametrize(
    ("method", "name", "without", "used", "reason"),
    [
        ("mtt", "chunk_size", {"adjoint": "direct"}, {}, "`adjoint` is direct"),
        ("mtt", "memory_budget", {"adjoint": "direct"}, {}, "`adjoint` is direct"),
        ("mtt", "lr_y", {}, {"labels": "learned"}, "`labels` is hard"),
        ("dm", "refresh_every", {}, {"sampling": "representative"}, "`sampling` is random"),
        ("dc", "inner_loop", {}, {"outer_loop": 2}, "`outer_loop` is 1"),
        ("dc", "batch_train", {}, {"outer_loop": 2}, "`outer_loop` is 1"),
        ("dc", "outer_warmup", {}, {"contrast": True}, "`contrast` is False"),
        ("dc", "inner_warmup", {}, {"contrast": True}, "`contrast` is False"),
        ("dcc", "inner_warmup", {"outer_warmup": 0}, {"outer_warmup": 1}, "`outer_warmup` is 0"),
    ],
)
def test_what_has_no_effect_is_refused_with_the_reason(
    method: str, name: str, without: dict[str, Any], used: dict[str, Any], reason: str
) -> None:
    assert value(settle(method, **{name: 7}, **used), name) == 7
    with pytest.raises(InputError, match=f"`{name}` has no effect with .*{method} .{reason}.: "):
        settle(method, **{name: 7}, **without)


def test_flat_experts_have_the_papers_balance_coefficient() -> None:
    experts = get_method("ftd").experts
    assert experts is not None
    alphas = [experts(dataset, ipc).alpha for dataset, ipc in (("cifar10", 1), ("cifar100", 10))]
    assert [*alphas, experts("mnist", 1).alpha] == [0.3, 1.0, 0.4]


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"min_start_epoch": 9, "max_start_epoch": 9}, r"start epochs are drawn from \[9, 9\)"),
        ({"ema_decay": 1.0}, "`ema_decay` must be a number of at least 0 and below 1, got 1.0"),
        ({"syn_steps": 0}, "`syn_steps` must be a whole number from 1 to"),
        ({"adjoint": "exact"}, "unknown adjoint 'exact'"),
        ({"labels": "soft"}, "unknown labels 'soft'"),
        ({"batch_syn": -1}, "`batch_syn` must be a whole number from 0 to"),
        ({"threshold": -1.0}, "`threshold` must be 0, or a number from"),
        ({"current_max_start_epoch": 4}, "`current_max_start_epoch` has no effect"),
    ],
)
def test_bad_trajectory_settings_are_refused(choice: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        settle("mtt", **choice)


def test_unknown_setting_is_refused() -> None:
    with pytest.raises(InputError, match="`syn_steps` is for mtt, ftd, tesla, datm, not dc: leave"):
        settle("dc", syn_steps=3)
    with pytest.raises(InputError, match="unknown setting of dc 'lr_image': did you mean 'lr_img'"):
        settle("dc", lr_image=1.0)


def test_unknown_method_is_refused() -> None:
    with pytest.raises(InputError, match="unknown method 'dsaa': did you mean 'dsa'"):
        get_method("dsaa")


def test_choosing_easy_images_takes_the_place_of_the_correction() -> None:
    assert value(settle("dc"), "lam") == 0.002
    assert value(settle("dc", tau=3.0), "lam") == 0
    assert value(settle("dsac", tau_quantile=0.5), "lam") == 0
    assert value(settle("dc", tau=3.0, lam=0.01), "lam") == 0.01


def test_a_loop_with_a_plain_field_is_refused_and_leaves_the_others_alone() -> None:
    @dataclass(frozen=True)
    class Plain(GradientMatching):
        sharpness: float = 1.0

    with pytest.raises(InputError, match="'sharpness' of method 'plain' has no help"):
        register_method(Method("plain", "none", Plain))
    with pytest.raises(InputError, match="'dc' is built into sdc-ext"):
        register_method(Method("dc", "none", GradientMatching))
    assert find_method("plain") is None

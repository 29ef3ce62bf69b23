from __future__ import annotations

import pytest

from sdc_ext import InputError
from sdc_ext.adapters import get_method
from sdc_ext.verbs.arms import check_arms, read_texts, written_arm

DC = get_method("dc")


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("lam=0.002 norm=l2_squared", {"lam": 0.002, "norm": "l2_squared"}),
        ("--lam-ramp=0.01,0.04,100", {"lam_ramp": (0.01, 0.04, 100)}),
        ("zca=true", {"zca": True}),
        ("zca=False", {"zca": False}),
        ("network=convnet:depth=2  iterations=3", {"network": "convnet:depth=2", "iterations": 3}),
        ("unknown=3", {"unknown": "3"}),  # which resolving the settings refuses
        ("", {}),
    ],
)
def test_arms_are_read_by_the_kinds_of_their_settings(
    text: str, settings: dict[str, object]
) -> None:
    assert written_arm(text, DC) == settings


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("zca=yes", "zca in `arm` must be True or False, got yes"),
        ("lam_ramp=1,2", r"lam_ramp in `arm` must be 3 values .* got 1,2"),
        ("lam=", "lam in `arm` must be 0, or a number"),
        ("=3", "written NAME=VALUE"),
        ("lam=1 --lam=1", "each name once"),
    ],
)
def test_arms_that_are_not_written_as_such_are_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        written_arm(text, DC)


def test_texts_of_numbers_are_read_and_other_values_stay() -> None:
    """YAML 1.1 takes 1e-3 for a text."""
    given = {"lam": "1e-3", "iterations": 3, "network": "mlp", "tau": None}
    assert read_texts(given, DC, "an arm") == {**given, "lam": 0.001}


def test_the_default_arms_are_those_of_lam() -> None:
    assert [arm.name for arm in check_arms(2)] == ["lam 0", "lam 0.002"]
    assert [arm.name for arm in check_arms(2, lams=[0, 1])] == ["lam 0", "lam 1"]


def test_a_negative_zero_is_zero() -> None:
    with pytest.raises(InputError, match="two arms are the same"):
        check_arms(2, lams=[0, -0.0])


def test_a_share_of_zero_is_lam_zero() -> None:
    soft, plain = {"share": 0.0, "norm": "l2"}, {"share": 0}
    assert [arm.name for arm in check_arms(2, arms=[soft, plain])] == [
        "norm l2, share 0",
        "share 0",
    ]
    for arms in ([plain, {"lam": 0.0}], [soft, {"norm": "l2", "lam": 0}]):
        with pytest.raises(InputError, match=r"two arms are the same \(.*share 0; lam 0"):
            check_arms(2, arms=arms)

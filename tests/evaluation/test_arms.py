from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdc_ext.evaluation import Arm

NAMES = st.sampled_from(["lam", "share", "norm", "network", "lam_ramp", "zca"])
NUMBERS = st.floats(allow_nan=False) | st.integers()
VALUES = NUMBERS | st.booleans() | st.text(max_size=80) | st.lists(st.floats(0, 1), max_size=3)
ARMS = st.dictionaries(NAMES, VALUES, max_size=3).map(Arm.of)


@pytest.mark.parametrize(
    ("settings", "name", "folder"),
    [
        ({"lam": 0}, "lam 0", "lam-0"),
        ({"lam": 0.0}, "lam 0", "lam-0"),
        ({"lam": 1e-30}, "lam 1e-30", "lam-1e-30"),
        ({"lam": 1e6}, "lam 1000000", "lam-1e+06"),  # as earlier versions named it
        ({"lam": np.float32(0.5)}, "lam 0.5", "lam-0.5"),
        ({"share": 0.1}, "share 0.1", "share-0.1"),
        ({"norm": "l2", "lam": 0.1}, "lam 0.1, norm l2", "lam-0.1,norm-l2"),
        ({"zca": True}, "zca True", "zca-true+"),
        ({"network": "convnet:depth=3"}, "network convnet:depth=3", "network-convnet-depth-3+"),
        ({"lam_ramp": [0.1, 0.2, 3]}, "lam_ramp 0.1 0.2 3", "lam_ramp-0.1-0.2-3+"),
        ({}, "defaults", "defaults"),
    ],
)
def test_names_and_folders(settings: dict[str, object], name: str, folder: str) -> None:
    arm = Arm.of(settings)
    assert arm.name == str(arm) == name
    found = re.sub(r"[+][0-9a-f]{8}$", "+", arm.folder)
    assert found == folder


@given(ARMS, ARMS)
def test_different_arms_have_different_folders(one: Arm, other: Arm) -> None:
    for arm in (one, other):
        assert re.fullmatch(r"[a-z0-9][a-z0-9_.,+-]{0,80}", arm.folder)
    if one.folder == other.folder and not (one.is_lam and other.is_lam):
        assert one.name == other.name


def test_the_order_of_settings_does_not_matter() -> None:
    assert Arm.of({"lam": 1, "norm": "l2"}) == Arm.of({"norm": "l2", "lam": 1.0})
    assert len({Arm.of({"lam_ramp": [1, 2, 3]}), Arm.of({"lam_ramp": (1, 2, 3)})}) == 1

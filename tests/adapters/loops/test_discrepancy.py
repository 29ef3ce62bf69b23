"""Runs that match another discrepancy, or corrupted real images: defaults, resuming, processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import launch, same

from sdc_ext import distill
from sdc_ext.adapters.loops.distribution import DistributionMatching
from sdc_ext.errors import InputError
from sdc_ext.sets.synthetic_set import SyntheticSet

QUICK: dict[str, Any] = {
    "network": "convnet:depth=1:width=4",
    "iterations": 3,
    "batch_real": 6,
    "num_eval": 1,
    "epoch_eval_train": 1,
    "progress": False,
}
OTHER = {"discrepancy": "sliced", "real_corruption": "gaussian-noise:3", "share": 0.2, "factor": 2}


def test_the_defaults_are_dms_and_others_are_not(tmp_path: Path) -> None:
    made = {
        name: distill("dm", out=tmp_path / name, **QUICK, **more).images
        for name, more in {
            "default": {},
            "named": {"discrepancy": "mmd-linear", "real_corruption": "none"},
            "energy": {"discrepancy": "energy"},
            "noise": {"real_corruption": "gaussian-noise:3"},
        }.items()
    }
    same(made["default"], made["named"])
    for name in ("energy", "noise"):
        assert not torch.equal(made["default"], made[name])


def test_resumed_runs_equal_uninterrupted_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = QUICK | OTHER | {"sampling": "representative", "refresh_every": 2}
    whole = distill("dm", out=tmp_path / "whole", **given)
    step = DistributionMatching.step

    def interrupted(self: Any, *args: Any) -> dict[str, float]:
        if args[-1] == 1:
            raise KeyboardInterrupt
        return dict(step(self, *args))

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(DistributionMatching, "step", interrupted)
        distill("dm", out=tmp_path / "parts", **given)
    same(distill("dm", out=tmp_path / "parts", resume=True, **given).images, whole.images)


def test_two_processes_equal_one(tmp_path: Path) -> None:
    options = {**QUICK, **OTHER}
    del options["progress"]
    words = [w for k, v in options.items() for w in (f"--{k.replace('_', '-')}", str(v))]
    for processes in (1, 2):
        launch(processes, tmp_path, "distill", "dm", *words, "--out", str(processes))
    one, two = (SyntheticSet.load(tmp_path / str(processes)).images for processes in (1, 2))
    torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"discrepancy": "mmd"}, "unknown discrepancy 'mmd'"),
        ({"real_corruption": "fog:1"}, "unknown corruption 'fog'"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        distill("dm", out=tmp_path / "set", **QUICK | settings)

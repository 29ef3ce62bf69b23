"""Runs whose correction is measured, or has a share of the image gradient."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import launch

from sdc_ext import InputError, LogRamp, distill, train_experts
from sdc_ext.adapters.loops import GradientMatching
from sdc_ext.cli import main
from sdc_ext.sets import SyntheticSet
from sdc_ext.sets.history import read_history
from sdc_ext.strength import REFRESHED_EVERY

NETWORK = "convnet:width=4:depth=1"
QUICK: dict[str, Any] = {
    "network": NETWORK,
    "num_eval": 1,
    "epoch_eval_train": 1,
    "progress": False,
}
TRAJECTORIES = {"syn_steps": 2, "expert_epochs": 1, "max_start_epoch": 2, "lr_lr": 1e-7}
# Settings with which each method does all that it does.
METHODS: dict[str, dict[str, Any]] = {
    "dc": {"ipc": 2, "outer_loop": 2, "batch_real": 16},
    "dsa": {"batch_real": 16},
    "dcc": {"outer_loop": 2, "outer_warmup": 1, "batch_real": 16},
    "dsac": {"outer_loop": 2, "outer_warmup": 1, "batch_real": 16},
    "dm": {"batch_real": 16},
    **{name: TRAJECTORIES for name in ("mtt", "ftd", "tesla", "datm")},
}


@pytest.fixture(scope="module")
def experts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("experts") / "digits"
    train_experts("mtt", network=NETWORK, num_experts=2, train_epochs=3, out=folder, progress=False)
    return folder


def run(out: Path, method: str, experts: Path, **settings: Any) -> SyntheticSet:
    given = {**QUICK, **METHODS[method], **settings}
    if METHODS[method] is TRAJECTORIES:
        given["experts"] = experts
    return distill(method, out=out, **{"iterations": 3, **given})


@pytest.mark.parametrize("method", METHODS)
def test_every_method_begins_with_the_share_asked_for(
    method: str, tmp_path: Path, experts: Path
) -> None:
    plain = run(tmp_path / "plain", method, experts, lam=0.0)
    synthetic = run(tmp_path / "share", method, experts, share=0.3)
    history = read_history(tmp_path / "share")
    assert history["share"][0] == pytest.approx(0.3, rel=1e-3)
    assert -1 <= history["cosine"][0] <= 1
    assert history["lam"] == [history["lam"][0]] * 3 and history["lam"][0] > 0
    parts = [m + lam * d for m, lam, d in zip(*(history[name] for name in ROW), strict=True)]
    classes = 10 if method in ("dc", "dsa") else 1  # a sum over classes there
    if method not in ("dcc", "dsac"):
        expected = [m + (p - m) * classes for m, p in zip(history["matching"], parts, strict=True)]
        assert history["loss"] == pytest.approx(expected, rel=1e-4)
    assert not torch.equal(synthetic.images, plain.images)
    assert str(synthetic.info.correction) == "share 0.3"


ROW = ("matching", "lam", "difficulty")


@pytest.mark.parametrize("method", METHODS)
def test_the_same_lam_gives_the_same_images(method: str, tmp_path: Path, experts: Path) -> None:
    run(tmp_path / "share", method, experts, share=0.3, iterations=1)
    (lam,) = read_history(tmp_path / "share")["lam"]
    given = run(tmp_path / "lam", method, experts, lam=lam, iterations=1)
    measured = read_history(tmp_path / "lam")
    assert measured["share"][0] == pytest.approx(0.3, rel=1e-3)
    chosen = SyntheticSet.load(tmp_path / "share")
    # In the first update of dc and dsa with two updates per network, the second has the same lam.
    torch.testing.assert_close(chosen.images, given.images, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", ["dc", "dm", "mtt"])
def test_share_zero_is_lam_zero(method: str, tmp_path: Path, experts: Path) -> None:
    lam, share = (
        run(tmp_path / name, method, experts, **{name: 0.0}).images for name in ("lam", "share")
    )
    assert torch.equal(lam, share)
    history = read_history(tmp_path / "share")
    assert history["share"] == [0.0] * 3 and all(map(math.isnan, history["cosine"]))


def test_the_share_of_a_trajectory_does_not_depend_on_the_adjoint(
    tmp_path: Path, experts: Path
) -> None:
    for adjoint in ("recompute", "direct"):
        run(tmp_path / adjoint, "mtt", experts, share=0.2, iterations=1, adjoint=adjoint)
    one, other = (read_history(tmp_path / name) for name in ("recompute", "direct"))
    assert one["lam"][0] == pytest.approx(other["lam"][0], rel=1e-4)
    assert one["cosine"][0] == pytest.approx(other["cosine"][0], rel=1e-3)


def test_ramps_of_the_share_grow_with_the_iterations(tmp_path: Path, experts: Path) -> None:
    synthetic = run(tmp_path / "ramp", "dm", experts, share=LogRamp(0.01, 0.04, 2))
    history = read_history(tmp_path / "ramp")
    first = history["lam"][0]
    assert history["lam"] == pytest.approx([first, 2 * first, 4 * first])
    assert history["share"] == pytest.approx([0.01, 0.02, 0.04], rel=1e-3)
    assert str(synthetic.info.correction) == "share 0.01 to 0.04 in 2"


def test_a_stopped_run_goes_on_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    iterations = REFRESHED_EVERY + 3  # a measure of each part lies before and after the stop
    command = f"distill dsa --share 0.2 --network {NETWORK} --num-eval 1 --epoch-eval-train 1"
    arguments = [*command.split(), "--iterations", str(iterations), "--batch-real", "16", "--out"]
    assert main([*arguments, str(tmp_path / "whole")]) == 0
    step = GradientMatching.step

    def interrupted(self: GradientMatching, *args: Any) -> dict[str, float]:
        if args[-1] == 5:
            raise KeyboardInterrupt
        return step(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(GradientMatching, "step", interrupted)
        assert main([*arguments, str(tmp_path / "stopped")]) == 130
    assert main([*arguments, str(tmp_path / "stopped"), "--resume"]) == 0
    whole, resumed = (SyntheticSet.load(tmp_path / name) for name in ("whole", "stopped"))
    assert torch.equal(resumed.images, whole.images)
    rows = [(tmp_path / name / "history.csv").read_text() for name in ("whole", "stopped")]
    assert rows[0] == rows[1]


def test_a_run_with_a_share_is_not_resumed_with_the_lam_that_it_left_out(tmp_path: Path) -> None:
    given = {**QUICK, "iterations": 1, "out": tmp_path / "set"}
    distill("dc", share=0.1, **given)
    with pytest.raises(InputError, match=r"holds a run with share 0\.1, not None"):
        distill("dc", resume=True, **given)


@pytest.mark.parametrize("method", ["dsa", "dsac", "dm"])
def test_two_processes_choose_the_lam_of_one(method: str, tmp_path: Path) -> None:
    command = f"distill {method} --share 0.2 --network {NETWORK} --num-eval 1 --iterations 3"
    arguments = [*command.split(), "--epoch-eval-train", "1", "--batch-real", "16", "--out"]
    for processes in (1, 2):
        launch(processes, tmp_path, *arguments, str(processes))
    one, two = (read_history(tmp_path / str(processes)) for processes in (1, 2))
    assert two["lam"] == pytest.approx(one["lam"], rel=1e-4)
    one_set, two_set = (SyntheticSet.load(tmp_path / str(processes)) for processes in (1, 2))
    torch.testing.assert_close(one_set.images, two_set.images, rtol=1e-4, atol=1e-5)


def test_a_correction_that_can_hardly_have_acted_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["--network", NETWORK, "--num-eval", "1", "--epoch-eval-train", "1", "--iterations", "2"]
    assert main(["distill", "dc", *few, "--out", str(tmp_path / "weak")]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "the correction can hardly have acted: its image gradient was 0.0" in printed
    assert "would make it a tenth, as a share of 0.1 does with any method" in printed
    assert main(["distill", "dc", *few, "--share", "0.1", "--out", str(tmp_path / "seen")]) == 0
    assert "hardly" not in capsys.readouterr().out
    assert main(["show", str(tmp_path / "seen")]) == 0
    assert "10 % of the matching loss's image gradient, cosine" in capsys.readouterr().out


@pytest.mark.parametrize(
    "pair", [("lam", "share"), ("lam_ramp", "share_ramp"), ("share", "share_ramp")]
)
def test_strengths_exclude_each_other(pair: tuple[str, str], tmp_path: Path) -> None:
    values = {"lam": 0.1, "share": 0.1, "lam_ramp": (0.1, 0.2, 3), "share_ramp": (0.1, 0.2, 3)}
    with pytest.raises(InputError, match=f"`{pair[0]}` and `{pair[1]}` exclude each other"):
        distill("dc", out=tmp_path, **QUICK, **{name: values[name] for name in pair})


def test_a_loop_that_measures_nothing_cannot_have_a_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"loss": 1.0, "matching": 1.0, "difficulty": 1.0}
    monkeypatch.setattr(GradientMatching, "step", lambda *_: dict(row))
    with pytest.raises(InputError, match="dc does not measure its share"):
        distill("dc", out=tmp_path / "set", share=0.1, **QUICK)

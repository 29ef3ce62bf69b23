"""Trajectory matching on the command line as a user types it."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import fork, launch, same, same_texts
from torch import Tensor

from sdc_ext.adapters.loops import trajectory
from sdc_ext.adapters.loops.trajectory import TrajectoryMatching
from sdc_ext.cli import main
from sdc_ext.experts.store import ExpertStore
from sdc_ext.sets.history import read_history
from sdc_ext.sets.synthetic_set import SyntheticSet

NETWORK = ["--network", "convnet:width=4:depth=1"]
# The smallest run that still does everything.
TINY = [
    *NETWORK,
    *("--syn-steps", "2", "--expert-epochs", "1", "--max-start-epoch", "2", "--iterations", "4"),
    *("--eval-every", "2", "--num-eval", "1", "--epoch-eval-train", "2"),
]


@pytest.fixture(scope="module")
def experts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two experts of three epochs, trained by the command."""
    folder = tmp_path_factory.mktemp("experts") / "digits"
    options = ["--num-experts", "2", "--train-epochs", "3", "--out", str(folder)]
    assert main(["experts", "mtt", *NETWORK, *options]) == 0
    return folder


def distill(out: Path, experts: Path, method: str = "mtt", *options: str) -> SyntheticSet:
    arguments = [*TINY, "--experts", str(experts), "--out", str(out), *options]
    assert main(["distill", method, *arguments]) == 0
    return SyntheticSet.load(out)


def columns(folder: Path) -> dict[str, list[float]]:
    return read_history(folder)


@pytest.mark.parametrize("method", ["mtt", "ftd", "tesla", "datm"])
def test_every_method_leaves_a_distilled_set(
    method: str, tmp_path: Path, experts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "set"
    synthetic = distill(out, experts, method, "--ipc", "2", "--lr-lr", "1e-4")
    info = synthetic.info
    assert synthetic.images.shape == (20, 1, 8, 8)
    assert synthetic.hard_labels.shape == (20,)
    if method == "datm":
        assert synthetic.labels.shape == (20, 10)
        torch.testing.assert_close(synthetic.labels.sum(1), torch.ones(20))
    else:
        assert synthetic.labels.tolist() == [c for c in range(10) for _ in range(2)]
    assert info.evaluation.align_corners
    kept = max(info.accuracies, key=lambda row: row["mean"])
    history = columns(out)
    learnt = history["syn_lr"][kept["iteration"] - 1]
    assert info.evaluation.lr == pytest.approx(learnt, rel=1e-6)
    assert set(history["start_epoch"]) <= {0.0, 1.0}
    of = {row["of"] for row in info.accuracies}
    assert of == ({"images", "ema"} if method == "ftd" else {"images"})
    assert "accuracy, best (counts)" in capsys.readouterr().out
    # Anyone can evaluate it, at the learnt rate, with its labels.
    assert main(["evaluate", str(out), "--num-eval", "1"]) == 0


def test_from_nothing_a_few_experts_are_trained_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["distill", "datm", *TINY]) == 0
    assert "training 5 in experts/" in capsys.readouterr().out
    (folder,) = (tmp_path / "experts").iterdir()
    assert folder.name == "digits-convnet-width4-depth1-gsam0.3-2epochs-seed0"
    assert len(ExpertStore.open(folder)) == 5
    written = {p.name: p.stat().st_mtime_ns for p in folder.iterdir()}
    assert main(["distill", "datm", *TINY, "--out", "again"]) == 0
    assert {p.name: p.stat().st_mtime_ns for p in folder.iterdir()} == written
    again, first = (SyntheticSet.load(Path(p)) for p in ("again", "runs/datm-digits-ipc1"))
    same(again.images, first.images)


def test_soft_labels_do_not_fit_into_the_originals_file(
    tmp_path: Path, experts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    distill(tmp_path / "set", experts, "datm")
    capsys.readouterr()
    assert main(["export", str(tmp_path / "set"), str(tmp_path / "res.pt")]) == 2
    assert "a res_*.pt cannot hold soft labels or ZCA-whitened images" in capsys.readouterr().err
    assert main(["show", str(tmp_path / "set")]) == 0


def test_learnt_rate_is_used_unless_another_is_chosen(tmp_path: Path, experts: Path) -> None:
    chosen = distill(tmp_path / "chosen", experts, "mtt", "--lr-eval", "0.3")
    assert chosen.info.evaluation.lr == 0.3


def test_teacher_labels_are_the_target_experts(tmp_path: Path, experts: Path) -> None:
    synthetic = distill(tmp_path / "set", experts, "tesla", "--labels", "teacher")
    assert synthetic.labels.shape == (10, 10)
    torch.testing.assert_close(synthetic.labels.sum(1), torch.ones(10))


def test_adjoints_agree_but_for_tesla(tmp_path: Path, experts: Path) -> None:
    images = {
        adjoint: distill(
            *(tmp_path / adjoint, experts, "mtt", "--adjoint", adjoint, "--lr-img", "1000")
        ).images
        for adjoint in ("recompute", "direct", "tesla")
    }
    torch.testing.assert_close(images["recompute"], images["direct"], rtol=1e-3, atol=1e-3)
    assert not torch.allclose(images["tesla"], images["direct"], rtol=1e-2, atol=1e-2)


def test_without_weight_the_correction_changes_nothing(tmp_path: Path, experts: Path) -> None:
    def images(name: str, *options: str) -> Tensor:
        return distill(tmp_path / name, experts, "mtt", *options).images

    plain = images("plain", "--lam", "0")
    same(images("final", "--lam", "0", "--difficulty-at", "final"), plain)
    assert not torch.equal(images("some", "--lam", "0.1"), plain)


def test_threshold_skips_every_update_and_says_so(
    tmp_path: Path, experts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "set"
    distill(out, experts, "mtt", "--threshold", "1e-9", "--pix-init", "real")
    assert "warning: 4 of 4 updates were skipped" in capsys.readouterr().out
    history = columns(out)
    assert history["skipped"] == [1.0] * 4
    assert json.loads((out / "meta.json").read_text())["settings"]["threshold"]["value"] == 1e-9
    assert set(history["syn_lr"]) == {history["syn_lr"][0]}


def test_whitened_set_is_evaluated_on_whitened_data_only(
    tmp_path: Path, experts: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    assert main(["distill", "mtt", *TINY, "--zca", "--out", "set"]) == 0
    synthetic = SyntheticSet.load(Path("set"))
    assert synthetic.info.whitening is not None
    assert synthetic.unwhitened is not None
    assert main(["evaluate", "set", "--num-eval", "1"]) == 0
    capsys.readouterr()
    refused = ["distill", "mtt", *TINY, "--zca", "--experts", str(experts), "--out", "other"]
    assert main(refused) == 2
    assert "were made for ZCA whitening none, not" in capsys.readouterr().err


def test_originals_buffers_are_taken_as_they_are(
    tmp_path: Path, experts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--num-experts", "2", "--train-epochs", "3", "--out", str(experts)]
    theirs = tmp_path / "buffers"
    assert main(["experts", "mtt", *NETWORK, *options, "--export", str(theirs)]) == 0
    ours = distill(tmp_path / "ours", experts)
    assert torch.equal(distill(tmp_path / "theirs", theirs).images, ours.images)
    assert "do not say their data set" in capsys.readouterr().out


def test_two_processes_equal_one_and_share_the_experts(tmp_path: Path) -> None:
    arguments = ["distill", "datm", *TINY, "--chunk-size", "3"]
    launch(2, tmp_path, *arguments, "--out", "two")
    (folder,) = (tmp_path / "experts").iterdir()
    assert len(ExpertStore.open(folder)) == 5
    launch(1, tmp_path, *arguments, "--experts", str(folder), "--out", "one")
    one, two = (SyntheticSet.load(tmp_path / name) for name in ("one", "two"))
    torch.testing.assert_close(two.images, one.images, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(two.labels, one.labels, rtol=1e-3, atol=1e-3)


# --- memory --------------------------------------------------------------------------------------

# Keeps the graph of one of the two inner steps, and the costly results of the other.
BUDGET = ["--memory-budget", "0.00019"]


@pytest.mark.parametrize(
    "options", [["--difficulty-at", "final"], ["--share", "0.2"], ["--adjoint", "tesla"]]
)
def test_a_memory_budget_changes_nothing_but_rounding(
    options: list[str], tmp_path: Path, experts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = distill(tmp_path / "kept", experts, "datm", *options, *BUDGET)
    said = "memory budget: 0.00019 GB for 2 of 2 inner steps, 1 as graphs of 0.11"
    assert capsys.readouterr().out.count(said) == 1
    plain = distill(tmp_path / "plain", experts, "datm", *options)
    assert "memory budget" not in capsys.readouterr().out
    torch.testing.assert_close(kept.images, plain.images, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(kept.labels, plain.labels, rtol=1e-3, atol=1e-3)


def test_two_processes_have_a_memory_budget_each(tmp_path: Path, experts: Path) -> None:
    given = [*TINY, "--experts", str(experts), "--chunk-size", "3", "--memory-budget", "1"]
    for processes in (1, 2):
        launch(processes, tmp_path, "distill", "datm", *given, "--out", str(processes))
    one, two = (SyntheticSet.load(tmp_path / str(processes)) for processes in (1, 2))
    torch.testing.assert_close(two.images, one.images, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(two.labels, one.labels, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        (["--memory-budget", "4"], "lower --memory-budget (now 4 GB)"),
        (["--adjoint", "direct"], "use --adjoint recompute, with a --memory-budget if there is"),
        (["--chunk-size", "8"], "lower --chunk-size (now 8)"),
        ([], "set --chunk-size to a small number of images, e.g. 1"),
    ],
)
@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), None]
)
def test_a_lack_of_memory_names_the_setting(
    options: list[str],
    advice: str,
    error: Exception | None,
    tmp_path: Path,
    experts: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        if error is not None:
            raise error
        torch.empty(2**60, dtype=torch.uint8)  # more than any machine has

    monkeypatch.setattr(trajectory, "match_trajectory", fail)
    arguments = ["distill", "mtt", *TINY, "--experts", str(experts), *options]
    assert main([*arguments, "--out", str(tmp_path / "set")]) == 2
    assert f"the memory is too small for this run: {advice}" in capsys.readouterr().err


def test_other_errors_are_not_taken_for_a_lack_of_memory(
    tmp_path: Path, experts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(trajectory, "match_trajectory", fail)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        distill(tmp_path / "set", experts)


# --- stopping ------------------------------------------------------------------------------------

_KILLED = """
import os, signal, sys
from sdc_ext.engine import checkpoint
from sdc_ext.adapters.loops.gradient import GradientMatching
from sdc_ext.adapters.loops import trajectory
from sdc_ext.adapters.loops.trajectory import TrajectoryMatching
from sdc_ext.cli import main
checkpoint.Checkpoint._SECONDS_BETWEEN = 0.0
for loop in (GradientMatching, TrajectoryMatching):
    def step(self, state, task, loss_fn, iteration, step=loop.step):
        if iteration == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, state, task, loss_fn, iteration)
    loop.step = step
main(sys.argv[1:])
"""


@pytest.mark.parametrize("method", ["dsa", "ftd", "datm"])
def test_killed_run_ends_as_if_it_had_not_been(method: str, tmp_path: Path, experts: Path) -> None:
    options = [*TINY, "--experts", str(experts), *(BUDGET if method == "datm" else [])]
    if method == "dsa":
        options = [*NETWORK, "--iterations", "4", "--num-eval", "1", "--epoch-eval-train", "2"]
    arguments = ["distill", method, *options, "--out"]
    assert main([*arguments, str(tmp_path / "whole")]) == 0
    (killed,) = fork((*arguments, tmp_path / "killed"), folder=tmp_path, code=_KILLED)
    assert killed.returncode == -signal.SIGKILL
    assert main([*arguments, str(tmp_path / "killed"), "--resume"]) == 0
    whole, resumed = (SyntheticSet.load(tmp_path / name) for name in ("whole", "killed"))
    same(resumed.images, whole.images)
    same(resumed.labels, whole.labels)
    for name in ("history.csv", "meta.json"):
        same_texts(*((tmp_path / folder / name).read_text() for folder in ("killed", "whole")))


def test_step_size_that_turns_negative_stops_the_run(
    tmp_path: Path, experts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "set"
    arguments = ["distill", "mtt", *TINY, "--experts", str(experts), "--out", str(out)]
    assert main([*arguments, "--lr-lr", "1e9", "--lr-teacher", "0.5"]) == 3
    error = capsys.readouterr().err
    assert "iteration 0: syn_lr went from 0.5 to -" in error and "lower --lr-lr" in error
    kept = SyntheticSet.load(out)
    assert kept.info.evaluation.lr == 0.5
    assert bool(kept.images.isfinite().all())


def test_divergence_names_the_likely_causes(
    tmp_path: Path, experts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "set"
    arguments = ["distill", "mtt", *TINY, "--experts", str(experts), "--out", str(out)]
    assert main([*arguments, "--lr-teacher", "1e30"]) == 3
    error = capsys.readouterr().err
    for cause in ("iteration 0", "--lr-img", "syn_lr is now 1e+30", "--zca", str(out)):
        assert cause in error
    assert bool(SyntheticSet.load(out).images.isfinite().all())


def test_divergence_may_be_skipped(
    tmp_path: Path, experts: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    step = TrajectoryMatching._update
    seen: list[Tensor] = []

    def sometimes(self: TrajectoryMatching, state: Any, gradients: list[Tensor]) -> None:
        seen.append(state.images.detach().clone())
        if len(seen) == 2:
            gradients = [gradients[0], gradients[1] + 1e12, *gradients[2:]]
        step(self, state, gradients)

    monkeypatch.setattr(TrajectoryMatching, "_update", sometimes)
    out = tmp_path / "set"
    distill(out, experts, "mtt", "--on-divergence", "skip")
    assert "iteration 1 skipped: syn_lr went from" in capsys.readouterr().out
    matching = columns(out)["matching"]
    assert [value == value for value in matching] == [True, False, True, True]
    assert torch.equal(seen[2], seen[1])  # nothing of the skipped update stays
    assert not torch.equal(seen[3], seen[2])


def test_corrected_command_may_use_the_folder_of_one_that_could_not_begin(
    tmp_path: Path, experts: Path
) -> None:
    arguments = ["distill", "mtt", *TINY, "--experts", str(experts), "--out", str(tmp_path / "set")]
    assert main([*arguments, "--max-start-epoch", "9"]) == 2
    assert main(arguments) == 0


# --- refusing ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["distill", "mtt", *TINY, "--max-start-epoch", "9"], "the experts have 3 epochs, but"),
        (["distill", "mtt", *TINY, "--network", "mlp"], "were made for network convnet:width=4"),
        (["distill", "dc", "--iterations", "1"], "dc matches no experts: leave --experts out"),
        (
            ["distill", "mtt", *TINY, "--lr-y", "1"],
            "--lr-y has no effect with these settings of mtt",
        ),
        (
            ["distill", "mtt", *TINY, "--adjoint", "direct", "--memory-budget", "1"],
            "--memory-budget has no effect with these settings of mtt",
        ),
    ],
)
def test_experts_that_do_not_fit_are_refused(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    experts: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "set"
    assert main([*arguments, "--experts", str(experts), "--out", str(out)]) == 2
    assert message in capsys.readouterr().err
    assert not (out / "meta.json").exists()


def test_damaged_and_existing_files_are_refused(
    tmp_path: Path, experts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = tmp_path / "ours"
    shutil.copytree(experts, ours)
    command = ["experts", "mtt", *NETWORK, "--num-experts", "2", "--train-epochs", "3"]
    command += ["--out", str(ours), "--export", str(tmp_path / "theirs")]
    assert main(command) == 0
    assert main(command) == 2
    assert "already holds replay_buffer_*.pt: export to another folder" in capsys.readouterr().err
    damaged = ours / "expert-001.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-9])
    assert main(command[:-2]) == 2
    assert "delete it and train it again" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dc"], "dc matches no experts: choose from mtt, ftd, tesla, datm"),
        (["mtt", "--num-experts", "0"], "--num-experts must be a whole number from 1"),
        (["mtt", "--optimizer", "adam"], "unknown --optimizer 'adam'"),
        (["ftd", "--rho", "-1"], "--rho must be a number from"),
    ],
)
def test_bad_expert_options_are_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["experts", *arguments]) == 2
    assert message in capsys.readouterr().err

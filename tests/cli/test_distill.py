"""The command line as a user types it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from helpers import launch, torchrun
from PIL import Image

from sdc_ext.adapters.loops.gradient import GradientMatching
from sdc_ext.cli import main
from sdc_ext.networks import chunks
from sdc_ext.sets.history import read_history
from sdc_ext.sets.synthetic_set import SyntheticSet

# The smallest run that still does everything.
SMALL = [
    *("--network", "convnet:width=8:depth=1", "--batch-real", "8", "--iterations", "3"),
    *("--num-eval", "1", "--epoch-eval-train", "2"),
]
TINY = [*SMALL, "--outer-loop", "2", "--inner-loop", "2"]


def tiny(method: str) -> list[str]:
    return SMALL if method == "dm" else TINY


def distill(out: Path, method: str = "dc", *options: str) -> SyntheticSet:
    assert main(["distill", method, *tiny(method), "--out", str(out), *options]) == 0
    return SyntheticSet.load(out)


def settings(synthetic: SyntheticSet) -> dict[str, Any]:
    return {name: setting["value"] for name, setting in synthetic.info.settings.items()}


@pytest.mark.parametrize("method", ["dc", "dsa", "dcc", "dsac", "dm"])
def test_every_method_leaves_a_distilled_set(
    method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    synthetic = distill(tmp_path / "set", method, "--ipc", "2")
    assert synthetic.images.shape == (20, 1, 8, 8)
    assert synthetic.labels.tolist() == [c for c in range(10) for _ in range(2)]
    assert 0 <= synthetic.info.accuracies[-1]["mean"] <= 1
    with Image.open(tmp_path / "set" / "grid.png") as picture:
        assert picture.width > 100
    history = (tmp_path / "set" / "history.csv").read_text().splitlines()
    assert history[0] == "iteration,loss,matching,difficulty,lam,share,cosine"
    assert len(history) == 4
    printed = capsys.readouterr().out
    assert "lr_img" in printed and "accuracy, last (counts)" in printed


def test_same_seed_same_bits_other_seed_other_images(tmp_path: Path) -> None:
    first, again, other = (
        distill(tmp_path / name, "dsa", "--seed", seed).images
        for name, seed in (("a", "1"), ("b", "1"), ("c", "2"))
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_correction_lowers_the_difficulty(tmp_path: Path) -> None:
    def difficulty(lam: str) -> float:
        distill(tmp_path / lam, "dc", "--lam", lam, "--iterations", "40")
        return sum(read_history(tmp_path / lam)["difficulty"][-10:])

    assert difficulty("10") < 0.95 * difficulty("0")


def interrupt_after(monkeypatch: pytest.MonkeyPatch, iterations: int) -> None:
    step = GradientMatching.step

    def interrupted(self: GradientMatching, *args: Any) -> dict[str, float]:
        if args[-1] == iterations:
            raise KeyboardInterrupt
        return step(self, *args)

    monkeypatch.setattr(GradientMatching, "step", interrupted)


def test_resumed_run_equals_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--iterations", "5", "--eval-every", "2")
    whole = distill(tmp_path / "whole", "dsa", *options)
    with monkeypatch.context() as patched:
        interrupt_after(patched, 3)
        arguments = ["distill", "dsa", *TINY, *options, "--out", str(tmp_path / "parts")]
        assert main(arguments) == 130
    assert "--resume" in capsys.readouterr().err
    parts = distill(tmp_path / "parts", "dsa", *options, "--resume")
    assert "resumed at iteration 3" in capsys.readouterr().out
    assert torch.equal(parts.images, whole.images)
    assert parts.info.accuracies == whole.info.accuracies
    for name in ("history.csv", "meta.json"):
        assert (tmp_path / "parts" / name).read_text() == (tmp_path / "whole" / name).read_text()


def test_a_finished_run_is_left_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = distill(tmp_path / "set")
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "set").iterdir()}
    again = distill(tmp_path / "set", "dc", "--resume")
    assert f"the run in {tmp_path / 'set'} is finished and is kept" in capsys.readouterr().out
    assert torch.equal(again.images, made.images)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "set").iterdir()} == written


def test_resuming_with_other_settings_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    distill(tmp_path / "set")
    arguments = ["distill", "dc", *TINY, "--out", str(tmp_path / "set"), "--resume", "--lam", "0.5"]
    assert main(arguments) == 2
    assert "holds a run with lam 0.002, not 0.5" in capsys.readouterr().err


def test_chunk_size_changes_nothing_but_rounding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = distill(tmp_path / "whole").images
    monkeypatch.setattr(chunks, "_CHUNK_PIXELS", 3 * 64)
    chunked = distill(tmp_path / "chunked").images
    torch.testing.assert_close(chunked, whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", ["dsa", "dsac", "dm"])
def test_two_processes_equal_one(tmp_path: Path, method: str) -> None:
    for number, name in ((1, "one"), (2, "two")):
        launch(number, tmp_path, "distill", method, *tiny(method), "--ipc", "2", "--out", name)
    alone, together = (SyntheticSet.load(tmp_path / name).images for name in ("one", "two"))
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(torch.accelerator.is_available(), reason="for machines without a GPU")
def test_processes_find_each_other_on_cpus_unasked(tmp_path: Path) -> None:
    torchrun(2, tmp_path, "distill", "dm", *SMALL, "--out", "two")
    assert len(SyntheticSet.load(tmp_path / "two").images) == 10


def test_divergence_stops_the_run_and_keeps_what_was_good(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "set"
    arguments = ["distill", "dc", *TINY, "--iterations", "9", "--lr-img", "1e30", "--out", str(out)]
    assert main(arguments) == 3
    error = capsys.readouterr().err
    assert "the loss is" in error and "lower --lr-img (now 1e+30)" in error
    assert bool(SyntheticSet.load(out).images.isfinite().all())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["dcca"], "unknown method 'dcca': did you mean 'dcc'"),
        (["dc", "--dataset", "mnits"], "unknown dataset 'mnits': did you mean 'mnist'"),
        (["dc", "--lam", "-1"], "--lam must be 0, or a number from 1e-30 to 1e+30, got -1\n"),
        (["dc", "--lam", "nan"], "--lam must be 0, or a number from 1e-30 to 1e+30, got nan\n"),
        (["dc", "--lam", "much"], "1e+30, got much\n"),
        (
            ["dc", "--lam-ramp", "0", "1", "10"],
            "START of --lam-ramp must be a number from 1e-30 to 1e+30, got 0\n",
        ),
        (["dc", "--ipc", "0"], "--ipc must be a whole number from 1 to 1000000000, got 0"),
        (["dc", "--ipc", "200"], "ipc 200 is more than the 133 training images of class '0'"),
        (
            ["dc", "--iterations", "0"],
            "--iterations must be a whole number from 1 to 1000000000, got 0",
        ),
        (["dc", "--lr-img", "-1"], "--lr-img must be a number from 1e-30 to 1e+30, got -1"),
        (["dc", "--network", "convnot"], "unknown network 'convnot': did you mean 'convnet'"),
        (["dc", "--network", "vgg11"], "vgg11 pools 8x8 images to nothing"),
        (["dc", "--eval-network", "convnot"], "unknown network 'convnot'"),
        (["dc", "--dsa-strategy", "blur"], "unknown DSA operation 'blur'"),
        (["dc", "--dis-metric", "cosine"], "unknown dis_metric 'cosine': did you mean 'cos'"),
        (["dc", "--init", "zeros"], "unknown --init 'zeros'"),
        (["dc", "--norm", "l1"], "unknown --norm 'l1': choose from l2, l2_squared"),
        (["dc", "--data-dir", "x", "--dataset", "mnist"], "no mnist in x"),
        (["dc", "--tracker", "nosuch"], "unknown tracker 'nosuch': choose from"),
        (["dc", "--data-dir", "x"], "name the data set imagefolder"),
        (["dc", "--seed", "-1"], "--seed must be a whole number from 0 to 4294967295, got -1"),
        (
            ["dc", "--lam-ramp", "0.1", "0.2", "nan"],
            "ITERATIONS of --lam-ramp must be a whole number from 1 to 1000000000, got nan\n",
        ),
        (
            ["dc", "--share-ramp", "0.1", "0.2", "0"],
            "ITERATIONS of --share-ramp must be a whole number from 1 to 1000000000, got 0\n",
        ),
        (["dc", "--lam", "1", "--lam-ramp", "0.1", "0.2", "3"], "exclude each other"),
        (["dc", "--eval-augmentation", "blur"], "unknown DSA operation 'blur'"),
        (["dc", "--dsa-strategy", "kornia:ColorJitter(hue=0.1)"], "cannot augment images of 1x8x8"),
        (["dc", "--image-size", "0"], "--image-size must be pixels as 32 or HEIGHTxWIDTH"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(
    options: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "set"
    assert main(["distill", *TINY, *options, "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_existing_folder_is_not_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    assert main(["distill", "dc", *TINY, "--out", str(tmp_path)]) == 2
    assert "exists" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_settings_carry_their_source(tmp_path: Path) -> None:
    info = distill(tmp_path / "set", "dsa", "--lam", "0.01").info
    assert info.settings["lam"] == {"value": 0.01, "source": "your choice"}
    assert info.settings["lr_img"]["source"] == "DatasetCondensation README"


def test_resuming_what_was_not_begun_begins_it(tmp_path: Path) -> None:
    assert len(distill(tmp_path / "set", "dc", "--resume").images) == 10


def test_ramp_of_the_correction(tmp_path: Path) -> None:
    distill(tmp_path / "set", "dc", "--lam-ramp", "0.01", "0.04", "2")
    assert read_history(tmp_path / "set")["lam"] == pytest.approx([0.01, 0.02, 0.04])


@pytest.mark.parametrize(
    "options",
    [
        ["--mixed-precision", "bf16"],
        ["--dsa-strategy", "kornia:RandomAffine(degrees=10)"],
        ["--network", "convnet:width=8:depth=1:norm=batch"],
        ["--network", "test_resnet"],
        ["--norm", "l2_squared", "--dis-metric", "mse"],
    ],
)
def test_variants_run(options: list[str], tmp_path: Path) -> None:
    images = distill(tmp_path / "set", "dc", *options).images
    assert bool(images.isfinite().all())


def test_colour_folder_is_distilled(tmp_path: Path) -> None:
    for label in ("red", "green"):
        for i in range(4):
            path = tmp_path / "photos" / label / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (10, 8), label).save(path)
    source = ["--dataset", "imagefolder", "--data-dir", str(tmp_path / "photos")]
    synthetic = distill(tmp_path / "set", "dsa", *source)
    assert synthetic.images.shape == (2, 3, 8, 10)
    assert synthetic.info.dataset == "imagefolder"
    again = distill(tmp_path / "again", "dsa", "--dataset", str(tmp_path / "photos"))
    assert torch.equal(again.images, synthetic.images)
    options = [str(tmp_path / "set"), "--dataset", str(tmp_path / "photos"), "--num-eval", "1"]
    assert main(["evaluate", *options]) == 0


def test_batch_norm_is_replaced_in_evaluation(tmp_path: Path) -> None:
    synthetic = distill(tmp_path / "s", "dc", "--network", "convnet:width=8:depth=1:norm=batch")
    assert settings(synthetic)["eval_network"] == "convnet:width=8:depth=1"


def test_evaluate_tables_sets_and_networks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    distill(Path("lam/0"))
    distill(Path("lam/1"), "dc", "--lam", "1")
    options = ["--networks", "mlp, test_resnet,mlp", "--num-eval", "2", "--epoch-eval-train", "2"]
    assert main(["evaluate", "lam/0", "lam/1", *options]) == 0
    rows = capsys.readouterr().out
    assert "network" in rows and "mlp" in rows and "test_resnet" in rows
    results = json.loads(Path("runs/evaluation/accuracies.json").read_text())
    cells = [(r["set"], r["network"], len(r["accuracies"])) for r in results]
    networks = ("mlp", "test_resnet")
    assert cells == [(name, network, 2) for name in ("0", "1") for network in networks]
    assert results[2]["correction"] == "lam 1"
    table = Path("runs/evaluation/accuracies.csv").read_text().splitlines()
    assert table[0] == (
        "set,method,dataset,ipc,images,correction,distilled_with,distilled_seed,"
        "distilled_settings,factor,whitening,network,epochs,lr,augmentation,optimizer,schedule,mix,"
        "label_loss,temperature,teacher,seed,index,accuracy"
    )
    chosen = (
        "outer_loop=2; inner_loop=2; batch_real=8; iterations=3; num_eval=1; epoch_eval_train=2"
    )
    made = f"0,dc,digits,1,10,lam 0.002,convnet:width=8:depth=1,0,{chosen},1,none,mlp"
    recipe = "2,0.01,none,sgd,step,none,cross_entropy,1.0,"
    first = results[0]["accuracies"][0]
    assert table[1] == f"{made},{recipe},0,0,{first}"
    assert len(table) == 9
    with Image.open("runs/evaluation/accuracies.png") as picture:
        assert picture.width > 100
    # A second one lies beside the first, and a named one replaces nothing.
    assert main(["evaluate", "lam/0", "lam/1", *options]) == 0
    assert Path("runs/evaluation-2/accuracies.csv").is_file()
    assert main(["evaluate", "lam/0", "--out", "runs/evaluation", *options]) == 2
    assert "runs/evaluation exists: choose another --out" in capsys.readouterr().err


def test_evaluate_in_half_precision_is_close(tmp_path: Path) -> None:
    distill(tmp_path / "set")
    means = []
    for precision in ("no", "bf16"):
        AcceleratorState._reset_state(reset_partial_state=True)
        out = tmp_path / precision
        options = ["--mixed-precision", precision, "--out", str(out), "--lr-eval", "0.001"]
        assert main(["evaluate", str(tmp_path / "set"), *options]) == 0
        means.append(json.loads((out / "accuracies.json").read_text())[0]["mean"])
    assert means[0] == pytest.approx(means[1], abs=0.05)


def test_evaluate_repeats_the_runs_own_evaluation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    synthetic = distill(tmp_path / "set")
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "set"), "--num-eval", "1"]) == 0
    assert f"{100 * synthetic.info.accuracies[-1]['mean']:.2f}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["evaluate", "nothing"], "there is no file or folder nothing"),
        (["show", "nothing"], "there is no file or folder nothing"),
        (["export", "nothing"], "there is no file or folder nothing"),
        (["evaluate", "nothing.pt"], "there is no file or folder nothing.pt"),
        (["evaluate", "junk.pt"], "junk.pt holds no plain tensors"),
        (["evaluate", "nothing", "--seed", "-1"], "--seed must be a whole number"),
        (["frobnicate"], "unknown command 'frobnicate': choose from audit"),
        ([], "the following arguments are required: COMMAND"),
    ],
)
def test_other_commands_refuse_bad_input(
    command: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "junk.pt").write_text("junk")
    assert main(command) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_evaluate_refuses_an_unknown_network_before_it_trains(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    distill(tmp_path / "set")
    assert main(["evaluate", str(tmp_path / "set"), "--networks", "mlp,lenot"]) == 2
    assert "did you mean 'lenet'" in capsys.readouterr().err


def test_show_draws_grid_and_curves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    distill(tmp_path / "set")
    assert main(["show", str(tmp_path / "set"), "--out", str(tmp_path / "picture.png")]) == 0
    printed = capsys.readouterr().out
    for name in ("picture.png", "picture-curves.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.width > 100
        assert name in printed


def test_program_is_installed(tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("sdc-ext")
    done = subprocess.run(
        [program, "distill", "dc", "--ipc", "0"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr == "sdc-ext: --ipc must be a whole number from 1 to 1000000000, got 0\n"
    assert list(tmp_path.iterdir()) == []


def test_run_file_identifies_the_run(tmp_path: Path) -> None:
    distill(tmp_path / "set", "dsac")
    identity = json.loads((tmp_path / "set" / "run.json").read_text())
    assert (identity["method"], identity["dataset"], identity["ipc"]) == ("dsac", "digits", 1)


def test_a_folder_is_named_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "photos").mkdir()
    command = ["distill", "dc", "--dataset", str(tmp_path / "photos"), "--data-dir", "other"]
    assert main(command) == 2
    assert "photos is a folder already: leave --data-dir out" in capsys.readouterr().err

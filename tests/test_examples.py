"""The scripts with the originals' flags, on the bundled digits."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
import torch
import yaml
from helpers import run_script

from sdc_ext.sets.formats.res import read_res
from sdc_ext.sets.synthetic_set import SyntheticSet

EXAMPLES = Path(__file__).parent.parent / "examples"
DATA = ("--dataset", "digits", "--model", "ConvNetW4")
QUICK = ("--num_eval", 1, "--epoch_eval_train", 2)
SHORT = ("--expert_epochs", 1, "--max_start_epoch", 2, "--syn_steps", 2, "--eval_it", 1)
TRAJECTORY = (*DATA, *QUICK, *SHORT, "--Iteration", 1, "--lr_img", 10, "--sdc_lambda", 0.01)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(EXAMPLES)

    def run(name: str, *arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")

    return run


def lam(folder: Path) -> float:
    return SyntheticSet.load(folder).info.settings["lam"]["value"]


@pytest.mark.parametrize(
    ("name", "arguments", "method"),
    [
        ("dc_main.py", ("--Iteration", 1), "DC"),
        ("dc_main.py", ("--Iteration", 1, "--method", "DSA", "--init", "real",
                        "--dsa_strategy", "color_scale"), "DSA"),
        ("dcc_main.py", ("--outer_loop", 2, "--contrast", "--outer_warmup", 1,
                         "--inner_warmup", 1, "--eval_freq", 2), "DC"),
        ("dcc_main.py", ("--outer_loop", 1, "--method", "DSA"), "DSA"),
        ("dm_main.py", ("--Iteration", 1, "--ipc", 1, "--dsa_strategy", "color_scale"), "DM"),
    ],
)  # fmt: skip
def test_gradient_matching(run, tmp_path: Path, name: str, arguments: tuple, method: str) -> None:
    common = (*DATA, *QUICK, "--num_exp", 2, "--batch_real", 4, "--sdc_lambda", 0.01)
    run(name, *common, *arguments)
    path = tmp_path / f"result/res_{method}_digits_ConvNetW4_1ipc.pt"
    content = torch.load(path, weights_only=True)
    first, second = (images for images, _ in content["data"])
    assert first.shape == second.shape == (10, 1, 8, 8)
    assert not torch.equal(first, second)
    assert len(content["accs_all_exps"]["ConvNetW4"]) == 2
    assert torch.equal(read_res(path).images, second)
    assert len(list(path.parent.glob(f"vis_{method}_digits_ConvNetW4_1ipc_exp?_iter?.png"))) == 2
    (folder,) = path.parent.glob("run-*/exp1")
    assert lam(folder) == 0.01


@pytest.fixture
def buffers(run, tmp_path: Path) -> Path:
    run(
        "mtt_buffer.py",
        *(*DATA, "--num_experts", 2, "--train_epochs", 3, "--batch_train", 256, "--dsa", "False"),
    )
    folder = tmp_path / "buffers/digits/ConvNetW4"
    trajectories = torch.load(folder / "replay_buffer_0.pt", weights_only=True)
    assert [len(trajectory) for trajectory in trajectories] == [4, 4]
    return folder


@pytest.mark.parametrize(
    ("name", "arguments", "labels"),
    [
        ("mtt_distill.py", ("--no_aug", "True"), torch.int64),
        ("tesla_distill.py", ("--teacher_label", "--batch_syn", 5), torch.float32),
        ("ftd_distill.py", ("--ema_decay", 0.9), torch.int64),
    ],
)
def test_trajectory_matching(
    run, buffers: Path, tmp_path: Path, name: str, arguments: tuple, labels: torch.dtype
) -> None:
    run(name, *TRAJECTORY, *arguments)
    (folder,) = (tmp_path / "logged_files/digits").iterdir()
    best = SyntheticSet.load(folder)
    assert torch.equal(torch.load(folder / "images_best.pt"), best.images)
    assert torch.load(folder / "labels_best.pt").dtype == labels
    assert torch.load(folder / "lr_best.pt").item() == pytest.approx(best.info.evaluation.lr)
    assert lam(folder) == 0.01
    assert best.info.settings["lr_img"]["value"] == (5 if "tesla" in name else 10)


def test_datm_reads_its_configuration(run, tmp_path: Path) -> None:
    run(
        "ftd_buffer.py",
        *(*DATA, "--num_experts", 1, "--train_epochs", 3, "--dsa", "False"),
        *("--rho_max", 0.01, "--rho_min", 0.01, "--alpha", 0.3),
    )
    configuration = {
        **{"dataset": "digits", "model": "ConvNetW4", "ipc": 1, "zca": False, "lr_img": 10},
        **{"buffer_path": "buffers", "num_eval": 1, "epoch_eval_train": 2, "Iteration": 1},
        **{"expert_epochs": 1, "max_start_epoch": 2, "syn_steps": 2, "pix_init": "real"},
        **{"Sequential_Generation": False, "device": [3], "eval_it": 1, "threshold": 100.0},
    }
    Path("IPC1.yaml").write_text(yaml.safe_dump(configuration))
    run("datm_distill.py", "--cfg", "IPC1.yaml", "--sdc_lambda", 0.01)
    (folder,) = (tmp_path / "logged_files/digits").iterdir()
    best = SyntheticSet.load(folder)
    assert lam(folder) == 0.01
    logits = torch.load(folder / "labels_best.pt")
    torch.testing.assert_close(logits.softmax(-1), best.labels)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("mtt_distill.py", ("--eval_mode", "M"), "sdc-ext evaluate FOLDER"),
        ("mtt_distill.py", ("--texture",), "textures are not distilled"),
        ("mtt_buffer.py", ("--mom", 0.9), "without momentum"),
        ("ftd_buffer.py", ("--rho_max", 0.1), "one value"),
        ("dc_main.py", ("--method", "DM"), "is not DC or DSA"),
        ("dc_main.py", ("--model", "GoogLeNet", "--dataset", "digits"), "ConvNetW32 and ConvNetD4"),
        ("datm_distill.py", ("--cfg", "missing.yaml"), "cannot read missing.yaml"),
    ],
)
def test_what_there_is_not(
    run, name: str, arguments: tuple, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(name, *arguments)
    assert message in capsys.readouterr().err


def test_divergence_has_a_status_of_its_own(run, capsys: pytest.CaptureFixture[str]) -> None:
    options = (*DATA, *QUICK, "--num_exp", 1, "--batch_real", 4, "--Iteration", 2)
    with pytest.raises(SystemExit, match="3"):
        run("dc_main.py", *options, "--lr_img", 1e30)
    assert "dc_main.py: iteration 1: " in capsys.readouterr().err


def test_numbers_of_a_configuration_may_be_texts(run, capsys: pytest.CaptureFixture[str]) -> None:
    Path("text.yaml").write_text("lr_lr: 1e-5\nlr_img: much\n")
    with pytest.raises(SystemExit, match="2"):
        run("datm_distill.py", "--cfg", "text.yaml")
    assert "text.yaml: lr_img must be a number, got 'much'" in capsys.readouterr().err


def test_unknown_settings_of_a_configuration(run, capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.yaml").write_text("lr_image: 3\n")
    with pytest.raises(SystemExit, match="2"):
        run("datm_distill.py", "--cfg", "bad.yaml")
    assert "unknown setting 'lr_image'" in capsys.readouterr().err


def test_flags_without_effect_are_named(run, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        run("mtt_distill.py", *DATA, "--load_all", "--lr_init", 0.02)
    told = capsys.readouterr()
    assert "no effect here: --lr_init, --load_all" in told.out
    assert "no replay_buffer_*.pt in buffers/digits/ConvNetW4" in told.err


def test_data_and_a_network_of_ones_own_are_distilled_and_compared(tmp_path: Path) -> None:
    done = run_script(EXAMPLES / "own_data.py", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "SyntheticSet(dc on bars, ipc 2" in done.stdout
    assert "points gained over lam 0" in done.stdout
    assert (tmp_path / "bars.png").stat().st_size > 1000


def test_continual_learning(run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny = ("--network", "convnet:depth=1:width=4", "--ipc", 1, "--steps", 2, "--seeds", 2)
    with pytest.raises(SystemExit) as ended:
        run("continual_dm.py", *tiny, "--iterations", 1, "--num-eval", 1, "--epoch-eval-train", 1)
    assert not ended.value.code
    shown = capsys.readouterr().out
    assert "DM + SDC" in shown and "minus random" in shown
    rows = (tmp_path / "continual.csv").read_text().splitlines()
    assert len(rows) == 1 + 4 * 2 * 2
    assert (tmp_path / "continual.png").stat().st_size > 0

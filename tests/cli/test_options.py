"""What the program says about arguments that it cannot use, and where its output goes."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import PATIENCE

import sdc_ext
from sdc_ext.cli import _flags_of, _with_flags, build_parser, main, run_program

CLI = [sys.executable, "-m", "sdc_ext.cli"]

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "picture").touch()


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("distill dc --dataset nowhere", "unknown dataset 'nowhere': choose from cifar10, .*, a"),
        ("distill dc --dataset ./pics2", "there is no folder ./pics2: name a data set, or a fold"),
        ("distill dc --dataset picture", "picture is a file, not a folder: name a data set, or a"),
        ("methods dc --dataset nope", "unknown dataset 'nope': choose from"),
        ("evaluate SET --dataset nope", "unknown dataset 'nope': choose from"),
        (
            "compare dc --seed 3",
            "compare has no --seed, which belongs to distill, .*: did you mean --seeds?",
        ),
        ("compare dc --tracker x", "compare has no --tracker, which belongs to distill: sdc-ext"),
        ("distill dc --syn-steps 3", "--syn-steps is for mtt, ftd, tesla, datm, not dc: leave"),
        ("distill dc --lam 1 --lam-ramp 1 2 3", "--lam and --lam-ramp exclude each other: set"),
        ("tune dc --lam 1 2 --share 1 2", "--lam and --share exclude each other in a search: pass"),
        ("distill dc --lam -1e-3", "--lam must be 0, or a number from 1e-30 .*, got -1e-3"),
        ("distill dc --lam -inf", "--lam must be 0, or a number from 1e-30 .*, got -inf"),
        ("--foo distill dc", "unrecognized argument --foo: options stand after a command; sdc-ext"),
        ("distil dc", "unknown command 'distil': did you mean 'distill'"),
        ("theory perceptro", "unknown theory 'perceptro': did you mean 'perceptron'"),
        ("distill --help dcx", "unknown method 'dcx': did you mean 'dc'"),
        ("distill datm mtt --help", "unrecognized arguments mtt: sdc-ext distill --help lists"),
        ("distill", "METHOD is missing: see sdc-ext distill --help"),
    ],
)
def test_each_kind_of_mistake_has_its_sentence(
    command: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command.split()) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert re.match(f"sdc-ext: {sentence}", line), line


def test_what_sets_are_like_needs_a_set(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["difficulty", "--zca"]) == 2
    assert "--zca and --factor say what sets are like: name a set" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--dataset", "--out", "--data-dir", "--experts", "--network"])
def test_nothing_is_no_value(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["distill", "mtt", option, ""]) == 2
    assert f"{option} must be a " in capsys.readouterr().err


def test_old_terminals_get_a_question_mark(tmp_path: Path) -> None:
    code = "from sdc_ext.cli import run_program; run_program('x', lambda: print('1 \\xb1 2'))"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **ASCII}, capture_output=True, check=True
    )
    assert done.stdout == b"1 ? 2\n"


@pytest.mark.parametrize(
    "error", [MemoryError(), torch.OutOfMemoryError("CUDA"), RuntimeError("DefaultCPUAllocator")]
)
def test_too_little_memory_is_one_sentence(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    def program() -> None:
        raise error

    assert run_program("x", program) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("x: the memory is too small for this run: choose smaller batches, ")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a full device")
@pytest.mark.parametrize("arguments", [["--help"], ["methods"], ["methods", "dc"]])
def test_output_that_cannot_be_written_is_one_sentence(arguments: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*CLI, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, timeout=PATIENCE
        )
    assert (done.returncode, done.stderr) == (
        2,
        "sdc-ext: cannot write to standard output: No space left on device\n",
    )


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("evaluate", "--dataset, --lr-eval, --zca, --zca or --no-zca"),
        ("distill", "--dataset, `lr`, --zca, --zca or --no-zca"),
        ("experts", "--dataset, `lr`, --zca, --zca or --no-zca"),
    ],
)
def test_arguments_are_named_as_options(command: str, sentence: str) -> None:
    flags = _flags_of(build_parser(command))
    assert _with_flags("`data`, `lr`, `zca`, `zca=True` or `zca=False`", flags) == sentence


def test_errors_of_the_system_name_no_file_that_did_not_fail(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def program() -> None:
        raise BlockingIOError(errno.EAGAIN, "no more processes")

    assert run_program("x", program) == 2
    assert capsys.readouterr().err == "x: the system refuses to go on: no more processes\n"


@pytest.mark.parametrize("arguments", [["--help"], ["methods"]])
def test_a_closed_pipe_ends_the_program_silently(arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([*CLI, *arguments], stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("arguments", [["compare", "dc"], ["distill", "dc"]])
def test_what_cannot_work_is_refused_before_data_are_loaded(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"sdc_ext.cli.{arguments[0]}.load_chosen_data", None)
    for option, sentence in (
        ("--experts", "dc matches no experts: leave --experts out"),
        ("--out", "picture"),
    ):
        assert main([*arguments, option, "picture"]) == 2
        assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        ("picture", "picture is a file, not a folder: choose another --export"),
        ("picture/below", "cannot write to picture/below"),
        ("full", "full already holds replay_buffer_*.pt: export to another folder"),
    ],
)
def test_experts_have_a_place_before_data_are_loaded(
    place: str, sentence: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sdc_ext.cli.experts.load_chosen_data", None)
    Path("full").mkdir()
    Path("full", "replay_buffer_0.pt").touch()
    assert main(["experts", "mtt", "--export", place]) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["difficulty", "--per-class", "5", "--num-networks", "1"],
        ["discrepancy", "--measures", "energy", "--spaces", "pixels", "--draws", "2"],
    ],
)
def test_what_is_not_trained_on_needs_no_rate(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(torch.rand(10, 1, 8, 8), tmp_path / "images_best.pt")
    torch.save(torch.arange(10), tmp_path / "labels_best.pt")
    command, *options = arguments
    given = [command, str(tmp_path), "--dataset", "digits", *options]
    assert main([*given, "--lr-eval", "0.1"]) == 2
    assert f"{command} has no --lr-eval, which belongs to" in capsys.readouterr().err
    assert main([*given, "--train-epochs", "1", "--out", str(tmp_path / "out")]) == 0


def test_the_program_starts_without_torch() -> None:
    code = "import sys, sdc_ext.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    done = subprocess.run(
        [sys.executable, "-m", "sdc_ext", "--version"], capture_output=True, text=True
    )
    assert done.stdout == f"{sdc_ext.__version__}\n"

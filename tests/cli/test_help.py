"""What help, the table of methods and completion print."""

from __future__ import annotations

import sys

import pytest

from sdc_ext._options import GROUPS, OTHER
from sdc_ext.adapters import METHODS, known_methods
from sdc_ext.cli import COMMANDS, main
from sdc_ext.cli.distillation import offered_settings
from sdc_ext.data import load_data
from sdc_ext.errors import InputError


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a command prints, in one line; help ends it as argparse does."""
    if "--help" in arguments:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 0
    else:
        assert main(arguments) == 0
    return " ".join(capsys.readouterr().out.split())


def test_every_setting_of_ours_stands_under_its_purpose() -> None:
    groups = {
        name: one.option.metadata["group"]
        for name, one in offered_settings(known_methods()).items()
    }
    assert set(groups.values()) == set(GROUPS) - {OTHER}


def test_what_matters_comes_first(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "distill", "--help")
    order = [
        "METHOD",
        "main options",
        "--lam X",
        "--out",
        "the correction: --lam-ramp",
        "--tau X",
    ]
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    assert "matching, for mtt, ftd, tesla, datm: --syn-steps" in text


@pytest.mark.parametrize("command", ["distill", "compare", "tune"])
def test_after_a_method_help_lists_what_applies_to_it(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    gradient = printed(capsys, command, "dc", "--help")
    assert "--batch-real" in gradient and "--num-eval" in gradient
    assert "--syn-steps" not in gradient and "--experts" not in gradient
    trajectory = printed(capsys, command, "mtt", "--help")
    assert "--syn-steps" in trajectory and "--batch-real" not in trajectory
    assert ("--experts" in trajectory) == (command != "tune")


def test_help_for_an_unknown_method_names_the_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["distill", "dcx", "--help"]) == 2
    assert "unknown method 'dcx'" in capsys.readouterr().err


def test_the_table_of_methods_has_each_with_its_defaults(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    text = printed(capsys, "methods", "--dataset", "cifar100", "--ipc", "10")
    assert "defaults for cifar100 (100 classes) at ipc 10" in text
    for name in METHODS.names():
        assert f" {name} " in text
    # 5000 iterations of 20 steps on 100 x 10 images; Table 5's lam.
    assert "mtt │ trajectories │ real │ 5000 │ 0.02 │ 100 M │ 50" in text


def test_the_settings_of_a_method_come_with_their_sources(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    text = printed(capsys, "methods", "dsa", "--dataset", "mnist", "--ipc", "10")
    assert "dsa matches gradients per class" in text
    assert "│ lam │ 2e-05 │ SDC paper, Table 4 │" in text
    assert main(["methods", "dsb"]) == 2
    assert main(["methods", "--ipc", "0"]) == 2


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_knows_commands_and_options(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = printed(capsys, "completion", shell)
    for name in COMMANDS:
        assert name in text
    assert "tau-quantile" in text
    for name in ("datm", "herding", "tinyimagenet"):
        assert name in text or (shell == "tcsh" and name == "tinyimagenet")


def test_completion_needs_its_extra(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 2
    assert "pip install 'sdc-ext[completion]'" in capsys.readouterr().err


def test_a_mistyped_option_is_answered_with_the_nearest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["distill", "dc", "--itertions", "3"]) == 2
    assert capsys.readouterr().err == (
        "sdc-ext: unrecognized arguments --itertions 3: did you mean --iterations? sdc-ext "
        "distill --help lists the options\n"
    )


def test_sentences_of_the_library_name_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["distill", "dc", "--dataset", "mnist"]) == 2
    assert "mnist needs its folder: pass --data-dir" in capsys.readouterr().err
    with pytest.raises(InputError, match="mnist needs its folder: pass `data_dir`"):
        load_data("mnist")

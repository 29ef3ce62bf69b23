"""Where commands write: places are checked before the work, and results shown all the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from accelerate import Accelerator

from sdc_ext.cli import main
from sdc_ext.cli.folders import claim_folder, save_and_print

SMALL = ["--num-networks", "1", "--train-epochs", "1", "--network", "mlp", "--per-class", "1"]


class Result:
    """A result that prints as a word."""

    def __str__(self) -> str:
        return "found"

    def save(self, folder: Path) -> None:
        (folder / "found.txt").write_text("found")


@pytest.mark.parametrize(
    "command",
    [
        ["difficulty", *SMALL],
        ["membership", "random", "--shadows", "6", "--images", "2", "--network", "mlp"],
        ["theory", "perceptron", "--gamma", "0", "--f", "0.5"],
    ],
    ids=lambda command: command[0],
)
def test_a_default_place_is_checked_before_the_work(
    command: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs").write_text("a file")
    assert main(command) == 2
    said = capsys.readouterr()
    assert (said.out, said.err) == (
        "",
        "sdc-ext: runs is a file, not a folder: choose another --out\n",
    )


def test_a_result_is_shown_even_if_its_folder_cannot_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs").write_text("a file")
    with pytest.raises(OSError, match="runs"):
        save_and_print(Result(), "found.txt", Accelerator(cpu=True), None, "found")
    assert capsys.readouterr().out == "found\n"
    Path("runs").unlink()
    save_and_print(Result(), "found.txt", Accelerator(cpu=True), None, "found")
    assert capsys.readouterr().out == "found\nfound.txt in runs/found\n"
    assert Path("runs/found/found.txt").is_file()


@pytest.mark.parametrize(
    "command", [["score", "set"], ["report", "set"], ["report", "set", "--courses"]], ids=" ".join
)
def test_no_folder_is_where_a_file_is_wanted(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "empty.png"
    place.mkdir()
    flag = [] if command[-1] == "--courses" else ["--out"]
    assert main([*command, *flag, str(place)]) == 2
    assert capsys.readouterr().err == f"sdc-ext: {place} exists: choose another --out\n"


def test_one_set_named_twice_keeps_its_results_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "run" / "images_best.pt"
    file.parent.mkdir()
    file.touch()
    assert claim_folder(None, "found", [file.parent, file]) == tmp_path / "found-run"

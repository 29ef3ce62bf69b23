from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from helpers import launch

from sdc_ext.cli import main
from sdc_ext.errors import InputError
from sdc_ext.evaluation.comparison import Cell, Comparison, grid

OPTIONS = [
    *("--ipc", "1", "--iterations", "2", "--num-eval", "2", "--epoch-eval-train", "2"),
    *("--network", "convnet:depth=2:width=4", "--seeds", "2", "--lam", "0", "0.5"),
]


def test_cells_are_paired_by_seed() -> None:
    cells = [Cell(lam, seed, (0.1 * seed + lam,)) for lam, seed in grid([0.0, 0.2], 3)]
    comparison = Comparison((cells[0], *reversed(cells[1:])))
    assert comparison.accuracies(0.2) == pytest.approx([0.2, 0.3, 0.4])
    assert comparison.difference(0.2).differences == pytest.approx([0.2] * 3)
    base, row = comparison.summary()
    assert "difference" not in base
    assert row["difference"] == pytest.approx(0.2)
    assert row["wins"] == 3


def test_cells_of_different_seeds_are_not_paired() -> None:
    cells = [Cell(0.0, 0, (0.1,)), Cell(0.0, 1, (0.1,)), Cell(0.2, 1, (0.2,)), Cell(0.2, 2, (0.2,))]
    with pytest.raises(InputError, match=r"seed 0 was run with only one of lam 0 and 0\.2"):
        Comparison(tuple(cells)).difference(0.2)


def run(folder: Path) -> int:
    return main(["compare", "dc", *OPTIONS, "--batch-real", "8", "--out", str(folder)])


def test_finished_runs_are_kept_and_lost_ones_are_made_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "a") == 0
    told = capsys.readouterr().out
    assert "run 4 of 4: lam 0.5, seed 1" in told
    assert "points gained over lam 0, paired by seed" in told
    with (tmp_path / "a/cells.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * 2
    assert list(rows[0])[-4:] == ["lam", "seed", "index", "accuracy"]
    assert {(row["epochs"], row["augmentation"]) for row in rows} == {("2", "none")}
    origins = {tuple(list(row.values())[:6]) for row in rows}
    network = "convnet:depth=2:width=4"
    assert origins == {("dc", "digits", "1", "10", f"lam {lam}", network) for lam in ("0", "0.5")}
    assert len(json.loads((tmp_path / "a/comparison.json").read_text())) == 2
    for name in ("comparison.png", "tracking.png"):
        assert (tmp_path / "a" / name).read_bytes()[:4] == b"\x89PNG"

    first = (tmp_path / "a/cells.csv").read_bytes()
    kept = (tmp_path / "a/lam-0/seed-0/synthetic.safetensors").read_bytes()
    shutil.rmtree(tmp_path / "a/lam-0.5/seed-1")
    assert run(tmp_path / "a") == 0
    assert (tmp_path / "a/cells.csv").read_bytes() == first
    assert (tmp_path / "a/lam-0/seed-0/synthetic.safetensors").read_bytes() == kept


def test_without_weight_there_is_no_difference(tmp_path: Path) -> None:
    options = [*OPTIONS[:-3], "--batch-real", "8", "--out", str(tmp_path)]
    assert main(["compare", "dc", *options, "--lam", "0", "1e-30"]) == 0
    _, row = json.loads((tmp_path / "comparison.json").read_text())
    assert row["difference"] == 0
    assert row["sign_test"] == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seeds", "1"], "at least 2 seeds"),
        (["--lam", "0.1"], "2 different lam"),
        (["--lam", "0.1", "0.1000000001"], "2 different lam"),
        (["--lam", "0", "-1"], "--lam must be 0, or a number"),
        (["--lam-ramp", "1", "2", "3"], "compare has no --lam-ramp, which belongs to distill, run"),
    ],
)
def test_bad_input(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "dc", *options]) == 2
    assert message in capsys.readouterr().err


def test_two_processes_compare_as_one_does(tmp_path: Path) -> None:
    """Runs follow each other in one group of processes."""
    command = ["compare", "dc", *OPTIONS, "--batch-real", "8"]
    for number, name in ((1, "one"), (2, "two")):
        launch(number, tmp_path, *command, "--out", name)
    one, two = (json.loads((tmp_path / n / "comparison.json").read_text()) for n in ("one", "two"))
    assert [row["mean"] for row in one] == pytest.approx([row["mean"] for row in two], abs=0.01)

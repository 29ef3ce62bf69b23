from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from helpers import launch
from rich.console import Console

from sdc_ext.cli import main
from sdc_ext.errors import InputError
from sdc_ext.evaluation import Arm, Cell, Comparison
from sdc_ext.evaluation.comparison import grid
from sdc_ext.evaluation.paired import PairedDifference
from sdc_ext.report.tables import gain_table

OPTIONS = [
    *("--ipc", "1", "--iterations", "2", "--num-eval", "2", "--epoch-eval-train", "2"),
    *("--network", "convnet:depth=2:width=4", "--seeds", "2", "--lam", "0", "0.5"),
]


NONE, SOME = Arm.of({"lam": 0.0}), Arm.of({"lam": 0.2})


def test_cells_are_paired_by_seed() -> None:
    cells = [
        Cell(arm, seed, (0.1 * seed + arm.values["lam"],)) for arm, seed in grid([NONE, SOME], 3)
    ]
    comparison = Comparison((cells[0], *reversed(cells[1:])))
    assert comparison.accuracies(SOME) == pytest.approx([0.2, 0.3, 0.4])
    assert comparison.difference(SOME).differences == pytest.approx([0.2] * 3)
    base, row = comparison.summary()
    assert (base["arm"], row["arm"], row["settings"]) == ("lam 0", "lam 0.2", {"lam": 0.2})
    assert "difference" not in base
    assert row["difference"] == pytest.approx(0.2)
    assert row["wins"] == 3


def test_cells_of_different_seeds_are_not_paired() -> None:
    cells = [Cell(NONE, 0, (0.1,)), Cell(NONE, 1, (0.1,))]
    cells += [Cell(SOME, 1, (0.2,)), Cell(SOME, 2, (0.2,))]
    with pytest.raises(InputError, match=r"seed 0 was run with only one of lam 0 and lam 0\.2"):
        Comparison(tuple(cells)).difference(SOME)


def compared(*gains: Sequence[float]) -> Comparison:
    """A comparison whose arms gain these differences over a base at 50 %."""
    arms = [Arm.of({"lam": lam}) for lam in range(len(gains) + 1)]
    values = [[0.5] * len(gains[0]), *([0.5 + d for d in gain] for gain in gains)]
    return Comparison(tuple(Cell(arms[k], s, (values[k][s],)) for k, s in grid_of(arms, gains[0])))


def grid_of(arms: Sequence[Arm], seeds: Sequence[float]) -> list[tuple[int, int]]:
    return [(arms.index(arm), seed) for arm, seed in grid(arms, len(seeds))]


def test_arms_are_tested_together() -> None:
    one, other = (0.01, 0.02, 0.03, 0.01, 0.02), (0.01, -0.02, 0.03, 0.01, -0.02)
    first, second = compared(one, other).gains
    assert first.p == pytest.approx(2 * PairedDifference(one).t_test)
    assert second.p == pytest.approx(PairedDifference(other).t_test)
    alone = compared(one).gains[0]
    assert alone.p == pytest.approx(PairedDifference(one).t_test)
    assert alone.anytime_p == pytest.approx(PairedDifference(one).anytime_test)


def test_arms_are_called_equivalent_together() -> None:
    small, large = (0.0031, -0.003) * 4, (0.003, -0.0085) * 4
    first, second = compared(small, large).gains
    assert first.equivalence_p == pytest.approx(2 * PairedDifference(small).equivalence_test(0.005))
    assert second.equivalence_p == pytest.approx(PairedDifference(large).equivalence_test(0.005))
    # Alone it is equivalent however often one looks; the second arm takes that away.
    alone = compared(small).gains[0]
    assert alone.verdict.endswith(
        "equivalent to lam 0 within 0.5 points, however often you looked."
    )
    assert 0.05 < first.anytime_equivalence_p == pytest.approx(2 * alone.anytime_equivalence_p)
    assert "equivalent to lam 0 within 0.5 points, if the number" in first.verdict


@pytest.mark.parametrize(
    ("gain", "verdict"),
    [
        ([0.02, 0.021, 0.019, 0.02, 0.022] * 2, "a gain against lam 0, however often you looked."),
        ([-0.02, -0.021, -0.019, -0.02, -0.022] * 2, "a loss against lam 0, however often"),
        ([0.02, 0.01, 0.03, 0.005, 0.02], "a gain against lam 0, if the number of seeds was fixed"),
        ([0.001, -0.001] * 6, "equivalent to lam 0 within 0.5 points, however often you looked."),
        ([0.002, -0.002, 0.001], "equivalent to lam 0 within 0.5 points, if the number"),
        (
            [0.01, -0.02, 0.015],
            r"undecided after 3 seeds; \d+ more would show a gain of 0.5",
        ),
        ([0.01, 0.01], "undecided after 2 seeds."),
        (
            [0.0] * 3,
            "all accuracies agree with those of lam 0 in all 3 seeds; the runs are probably too "
            "short to differ, so make them longer.",
        ),
    ],
)
def test_verdicts_say_what_the_tests_show(gain: list[float], verdict: str) -> None:
    (found,) = compared(gain).gains
    assert re.match(f"lam 1: {verdict}", found.verdict)


def test_everything_is_content_for_json() -> None:
    rows = json.loads(json.dumps(compared([0.01, -0.02, 0.015]).summary(), allow_nan=False))
    assert rows[1]["anytime_interval"] is None  # three seeds have no bounded one
    assert rows[1]["seeds_left"] == rows[1]["seeds_needed"] - 3
    assert rows[1]["margin"] == 0.005
    rows = json.loads(json.dumps(compared([0.01, 0.01]).summary(), allow_nan=False))
    assert rows[1]["t_interval"] is None  # the spread is unknown


def test_the_table_fits_into_a_hundred_columns(capsys: pytest.CaptureFixture[str]) -> None:
    gains = compared([0.01, -0.02, 0.015, -0.1234, 0.12, 0.1], [0.0] * 6)
    Console(width=100, force_terminal=True, color_system=None).print(gain_table(gains))
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 100
    assert "┃ p, Holm ┃" in shown and "│ lam 1 │ +1.69 │" in shown


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
    assert list(rows[0])[-5:] == ["arm", "lam", "seed", "index", "accuracy"]
    assert {(row["epochs"], row["augmentation"]) for row in rows} == {("2", "none")}
    origins = {tuple(list(row.values())[:6]) for row in rows}
    network = "convnet:depth=2:width=4"
    assert origins == {("dc", "digits", "1", "10", f"lam {lam}", network) for lam in ("0", "0.5")}
    assert len(json.loads((tmp_path / "a/comparison.json").read_text())) == 2
    for name in ("comparison.png", "tracking.png"):
        assert (tmp_path / "a" / name).read_bytes()[:4] == b"\x89PNG"

    first = (tmp_path / "a/cells.csv").read_bytes()
    shutil.rmtree(tmp_path / "a/lam-0.5/seed-1")
    kept = written(tmp_path / "a/lam-0", tmp_path / "a/lam-0.5")
    assert run(tmp_path / "a") == 0
    assert (tmp_path / "a/cells.csv").read_bytes() == first
    told = capsys.readouterr().out
    assert "3 runs of 4 are kept" in told
    assert re.findall(r"run \d of 4", told) == ["run 4 of 4"]
    assert kept.items() <= written(tmp_path / "a/lam-0", tmp_path / "a/lam-0.5").items()


def written(*folders: Path) -> dict[Path, int]:
    """When each file in some folders was written."""
    files = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    return {path: path.stat().st_mtime_ns for path in files}


@pytest.mark.parametrize("lost", ["meta.json", "history.csv", "synthetic.safetensors"])
def test_a_run_that_lost_a_file_is_written_again(lost: str, tmp_path: Path) -> None:
    assert run(tmp_path) == 0
    path = tmp_path / "lam-0/seed-0" / lost
    before = path.read_bytes()
    path.unlink()
    assert run(tmp_path) == 0
    assert path.read_bytes() == before


def test_without_weight_there_is_no_difference(tmp_path: Path) -> None:
    options = [*OPTIONS[:-3], "--batch-real", "8", "--out", str(tmp_path)]
    assert main(["compare", "dc", *options, "--lam", "0", "1e-30"]) == 0
    _, row = json.loads((tmp_path / "comparison.json").read_text())
    assert row["difference"] == 0
    assert row["sign_test"] == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seeds", "1"], "a comparison needs at least 2 seeds, got 1: add more"),
        (["--lam", "0.1"], "a comparison needs at least 2 arms, got lam 0.1: add another"),
        (
            ["--lam", "0.1", "0.1000000001"],
            "two arms are the same to six digits (lam 0.1; lam 0.1000000001): leave one of",
        ),
        (["--lam", "0", "-1"], "--lam must be 0, or a number"),
        (
            ["--lam", "0", "1", "--arm", "lam=1"],
            "--lam and --arm exclude each other in a comparison: put all of them into --arm\n",
        ),
        (["--share", "1", "--arm", "lam=1"], "--share and --arm exclude each other"),
        (["--arm", "lam=0"], "at least 2 arms, got lam 0: add another"),
        (
            ["--arm", "lam=0", "--arm", "lam=0.0"],
            "the same to six digits (lam 0; lam 0)",
        ),
        (
            ["--arm", "lam=0", "--arm", "share=0"],
            "two arms are the same (lam 0; share 0): leave one of them out\n",
        ),
        (["--arm", "lam"], "--arm is written NAME=VALUE NAME=VALUE"),
        (["--arm", "lam=1 lam=2"], "each name once"),
        (["--arm", "lam=x"], "lam in --arm must be 0, or a number"),
        (["--arm", "lam=0", "--arm", "norm=l3"], "unknown norm"),
        (["--arm", "lam=0", "--arm", "syn_steps=3"], "--syn-steps is for"),
        (["--arm", "lam=0", "--arm", "frobnicate=3"], "unknown setting of dc 'frobnicate'"),
        (["--arm", "lam=0", "--arm", "seed=3"], "an arm takes no seed: pass --seeds"),
        (["--arm", "lam=0", "--arm", "lam=1 lam-ramp=1,2,3"], "exclude each other"),
        (["--arm", "lam=0", "--arm", "network=frob"], "frob"),
        (["--margin", "0"], "--margin must be a number from 0.001 to 100"),
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

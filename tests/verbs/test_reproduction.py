"""Tables of the paper within a budget, on a clock that the tests turn."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import pytest
import torch
from accelerate import Accelerator

from sdc_ext import DivergenceError, InputError, load_data, reproduce
from sdc_ext.adapters.loops import GradientMatching
from sdc_ext.cli import main
from sdc_ext.reproduction import ITEMS, Cell, Item, Pace
from sdc_ext.reproduction.items import PAPER_DATA
from sdc_ext.verbs import budgets, cells, clock

Paces: TypeAlias = dict[Cell, Pace | Exception]

TABLE = ITEMS["table1"]
PIXELS = torch.rand(160, 1, 8, 8, generator=torch.Generator().manual_seed(0))
TINY = load_data((PIXELS, torch.arange(160) % 10), name="tiny")
SMALL = replace(TABLE, cells=(Cell("dc", "mnist", 1), Cell("dsa", "mnist", 1)))


@pytest.fixture
def paces(monkeypatch: pytest.MonkeyPatch) -> Paces:
    """Trials find the pace that the test says; an error in its place is raised."""
    told: Paces = {}

    def measure(runs: cells.CellRuns, *how: object) -> Pace:
        pace = told.get(runs.cell, Pace(1.0, 0.5, 0.05))
        if isinstance(pace, Exception):
            raise pace
        return pace

    monkeypatch.setattr(budgets, "measure_pace", measure)
    return told


def turn(monkeypatch: pytest.MonkeyPatch, *lefts: float) -> None:
    """Sets what the clock says each time it is asked for the seconds that are left."""
    remaining = iter(lefts)
    monkeypatch.setattr(clock.Clock, "left", lambda clock: next(remaining))


def small(monkeypatch: pytest.MonkeyPatch, item: Item = SMALL) -> None:
    monkeypatch.setitem(ITEMS, "table1", item)  # type: ignore[arg-type]


def test_a_table_is_planned_run_and_written(
    tmp_path: Path, paces: Paces, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch)
    out = tmp_path / "table"
    turn(monkeypatch, 1000.0, 1000.0, 1000.0, 100.0, -1.0)
    found = reproduce("table1", out=out, width=4, progress=False)
    plan = json.loads((out / "plan.json").read_text())
    # 0.9 x 100 s for 2 cells x 2 arms x 5 seeds: 4.5 s, of which a third evaluates 2 networks.
    planned = plan["cells"]["dc-mnist-ipc1"]
    assert planned["iterations"] == 1
    assert planned["settings"] == {"eval_every": 1, "epoch_eval_train": 20}
    assert [row.data for row in found.rows] == ["digits"] * 4
    assert [row.cell.method for row in found.rows] == ["dc", "dc", "dsa", "dsa"]
    assert [len(row.here) for row in found.rows] == [2, 2, 2, 2]
    base, corrected = found.rows[:2]
    assert (str(base.paper), str(base.original)) == ("91.8 ± 0.4", "91.7 ± 0.5")
    assert (str(corrected.paper), corrected.original) == ("92 ± 0.4", None)
    assert corrected.gain is not None and corrected.share > 0
    text = str(found)
    assert "mnist (digits)" in text and "convnet:depth=2:width=4 (convnet)" in text
    assert "digits, 1347 (mnist, 60000)" in text and "iterations 1 (1000)" in text
    assert "eval_every" not in text  # the last evaluation counts
    assert "In 23 of the 50 cells of Tables 1 and 2" in text
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "<td>91.7 ± 0.5</td>" in page and "data:image/png;base64," in page
    rows = json.loads((out / "reproduction.json").read_text())["rows"]
    assert rows[1]["paper"] == 92.0 and rows[1]["gain"] is not None
    assert (out / "reproduction.png").read_bytes()[:4] == b"\x89PNG"


def test_the_same_call_adds_seeds_and_keeps_runs(
    tmp_path: Path, paces: Paces, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch, replace(SMALL, cells=SMALL.cells[:1]))
    out = tmp_path / "table"
    turn(monkeypatch, 1000.0, 1000.0, 100.0, -1.0)
    reproduce("table1", data=TINY, out=out, width=4, progress=False)
    first = out / "dc-mnist-ipc1" / "lam-0" / "seed-0" / "synthetic.safetensors"
    made, plan = first.read_bytes(), json.loads((out / "plan.json").read_text())
    per_seed = plan["cells"]["dc-mnist-ipc1"]["seconds"]
    turn(monkeypatch, per_seed * 1.5, 1.0, -1.0)  # no trials; enough for one seed more
    again = reproduce("table1", data=TINY, out=out, width=4, progress=False)
    assert [len(row.here) for row in again.rows] == [3, 3]
    assert first.read_bytes() == made
    kept = json.loads((out / "plan.json").read_text())
    assert kept["cells"] == plan["cells"] and kept["seeds"] == {"dc-mnist-ipc1": 3}
    with pytest.raises(InputError, match="holds runs of table1 on tiny with a width of 4: choose"):
        reproduce("table1", data=TINY, out=out, width=8, progress=False)


@pytest.mark.parametrize(
    ("folder", "seconds", "message"),
    [
        ("dc-mnist-ipc1", 0, r"plan.json is damaged \(.*seconds.*\): choose another `out`"),
        ("dc-mnist-ipc7", 1, r"is damaged \(no cell of table1 is in it\): choose another `out`"),
    ],
)
def test_a_damaged_plan_is_refused(
    folder: str, seconds: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch)
    cell = {"iterations": 1, "settings": {}, "other_epochs": 0, "seconds": seconds}
    plan = {"item": "table1", "width": 4, "data": {"mnist": "tiny"}, "cells": {folder: cell}}
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    turn(monkeypatch, -1.0)
    with pytest.raises(InputError, match=message):
        reproduce("table1", data=TINY, out=tmp_path, width=4, progress=False)


def test_every_round_says_in_one_line_what_is_kept(
    tmp_path: Path,
    paces: Paces,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    small(monkeypatch, replace(SMALL, cells=SMALL.cells[:1]))
    turn(monkeypatch, 1000.0, 1000.0, 100.0, 0.0015, 1.0, -1.0)
    monkeypatch.setattr("sdc_ext.verbs.budgets.BudgetPlan.seconds", 0.001)
    reproduce("table1", data=TINY, out=tmp_path / "table", width=4)
    first, _, second = capsys.readouterr().out.partition("cell 1 of 1, 3 seeds")
    assert "kept" not in first and first.count("lam 0.001, seed") == 2
    assert "4 runs of 6 are kept" in second and second.count("lam 0.001, seed") == 1
    folder = tmp_path / "table" / "dc-mnist-ipc1"
    made = {path: path.stat().st_mtime_ns for path in folder.rglob("seed-*/*")}
    turn(monkeypatch, -1.0)
    reproduce("table1", data=TINY, out=tmp_path / "table", width=4)
    assert "6 runs of 6 are kept" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("seed-*/*")} == made


def test_the_time_may_be_over_between_cells(
    tmp_path: Path, paces: Paces, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch)
    out = tmp_path / "table"
    turn(monkeypatch, 1000.0, 1000.0, 1000.0, 100.0, 30.0, 1.0, -1.0, -1.0)
    found = reproduce("table1", data=TINY, out=out, width=4, progress=False)
    seeds = [len(row.here) for row in found.rows]
    assert seeds[0] == seeds[1] > 2 and seeds[2:] == [2, 2]
    turn(monkeypatch, -1.0)
    again = reproduce("table1", data=TINY, out=out, width=4, progress=False)
    assert [len(row.here) for row in again.rows] == seeds


def test_what_does_not_fit_is_left_out_and_named(
    tmp_path: Path, paces: Paces, monkeypatch: pytest.MonkeyPatch
) -> None:
    dc, dsa = SMALL.cells
    dsac = Cell("dsac", "mnist", 1)
    small(monkeypatch, replace(SMALL, cells=(dc, dsa, dsac)))
    paces |= {dsa: Pace(50.0, 0.5, 0.05), dsac: DivergenceError("the loss is nan")}
    turn(monkeypatch, 1000.0, 1000.0, 1000.0, 1000.0, 100.0, -1.0)
    found = reproduce("table1", data=TINY, out=tmp_path / "table", width=4, progress=False)
    assert [len(row.here) for row in found.rows] == [2, 2, 0, 0, 0, 0]
    assert "dsac on mnist, ipc 1 was not run: the loss is nan." in found.sentences
    # 53 s for 4 runs of 5 seeds, of which 0.9 is planned with, after 900 s of trials.
    why = "its shortest run takes about 53 s, which needs a budget of 35 minutes"
    assert f"dsa on mnist, ipc 1 was not run: {why}." in found.sentences
    assert "not run" in str(found)


def test_a_cell_that_does_not_suit_the_data_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch, replace(SMALL, cells=(Cell("dsa", "mnist", 1), Cell("dsa", "mnist", 50))))
    # Two trials with what is left for the iterations, the plan, after the first round.
    turn(monkeypatch, 100.0, 1.0, 1.0, 100.0, -1.0)
    found = reproduce("table1", data=TINY, out=tmp_path / "table", width=4, progress=False)
    assert [len(row.here) for row in found.rows] == [2, 2, 0, 0]
    (why,) = [one for one in found.sentences if one.startswith("dsa on mnist, ipc 50")]
    assert "ipc 50 is more than the 12 training images of class '0'" in why
    assert not (tmp_path / "table" / "trial").exists()


def test_all_cells_diverge(tmp_path: Path, paces: Paces, monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch)
    paces |= dict.fromkeys(SMALL.cells, DivergenceError("the loss is nan"))
    turn(monkeypatch, 100.0, 100.0, 100.0)
    with pytest.raises(DivergenceError, match="the loss is nan"):
        reproduce("table1", data=TINY, out=tmp_path / "table", width=4, progress=False)
    # Nothing was run, so that the folder is free for other settings.
    turn(monkeypatch, 100.0, 100.0, 100.0)
    with pytest.raises(DivergenceError, match="the loss is nan"):
        reproduce("table1", data=TINY, out=tmp_path / "table", width=8, progress=False)


def test_trials_that_diverge_leave_nothing_and_name_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch)

    def diverge(*_: object) -> None:
        raise DivergenceError("the loss is nan")

    monkeypatch.setattr(GradientMatching, "step", diverge)
    turn(monkeypatch, 100.0, 1.0, 1.0)
    with pytest.raises(DivergenceError, match=r"iteration 0: the loss is nan$"):
        reproduce("table1", data=TINY, out=tmp_path / "table", width=4, progress=False)
    assert not (tmp_path / "table" / "trial").exists()


def test_nothing_fits(tmp_path: Path, paces: Paces, monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch)
    turn(monkeypatch, 1.0, 1.0, 1.0, 1.0)
    with pytest.raises(InputError, match=r"nothing fits into the `budget` \(.*give it more"):
        reproduce("table1", data=TINY, out=tmp_path / "table", width=4, progress=False)
    # The folder can be used with a larger budget.
    turn(monkeypatch, 1000.0, 1000.0, 1000.0, 100.0, -1.0)
    found = reproduce("table1", 2.0, TINY, out=tmp_path / "table", width=4, progress=False)
    assert all(row.here for row in found.rows)


def test_other_networks_are_trained_and_kept(
    tmp_path: Path, paces: Paces, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = Cell("dsac", "mnist", 10)
    networks = ("mlp", "resnet18:unknown=1")
    small(monkeypatch, replace(ITEMS["table3"], cells=(cell,), networks=networks))
    paces |= {cell: Pace(1.0, 0.01, 0.02, 0.01, 0.02)}
    turn(monkeypatch, 1000.0, 1000.0, 30.0, -1.0)
    out = tmp_path / "table"
    found = reproduce("table1", data=TINY, out=out, width=4, progress=False)
    of_mlp = [row for row in found.rows if row.network == "mlp"]
    assert [str(row.paper) for row in of_mlp] == ["90.62", "90.93"]
    assert [len(row.here) for row in of_mlp] == [2, 2]
    assert not any(row.here for row in found.rows if row.network != "mlp")
    kept = out / "dsac-mnist-ipc10" / "networks-1" / "accuracies.json"
    written = kept.stat().st_mtime_ns
    turn(monkeypatch, -1.0)
    again = reproduce("table1", data=TINY, out=out, width=4, progress=False)
    assert kept.stat().st_mtime_ns == written
    assert [row.here for row in again.rows] == [row.here for row in found.rows]


def test_experts_are_trained_within_their_part_of_the_time(
    tmp_path: Path, paces: Paces, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = Cell("mtt", "cifar10", 1)
    small(monkeypatch, replace(ITEMS["table2"], cells=(cell,)))
    paces |= {cell: Pace(1.0, 0.1, 0.01)}
    trained: list[int] = []
    train = cells.CellRuns.train_experts

    def watched(self: cells.CellRuns, number: int, epochs: int) -> None:
        trained.append(epochs)
        train(self, number, epochs)

    monkeypatch.setattr(cells.CellRuns, "train_experts", watched)
    monkeypatch.setattr(budgets, "expert_pace", lambda *how: 2.0)
    turn(monkeypatch, 100.0, 100.0, 80.0, 60.0, -1.0)
    found = reproduce("table1", out=tmp_path / "table", width=4, progress=False)
    # A fifth of 100 s for two experts, with 2 s for an epoch of one.
    assert trained == [5]
    assert [len(row.here) for row in found.rows] == [2, 2]
    (differing,) = found.differences.values()
    plan = json.loads((tmp_path / "table" / "plan.json").read_text())
    iterations = plan["cells"]["mtt-cifar10-ipc1"]["iterations"]
    assert "experts 2 of 5 epochs (100 of 50 to 100 epochs)" in differing
    assert f"eval_every {iterations} (100)" in differing  # the best evaluation counts
    assert "max_start_epoch 4 (2)" in differing  # of 5 epochs, the last two are matched
    (tmp_path / "table").rename(tmp_path / "moved")
    turn(monkeypatch, -1.0)
    again = reproduce("table1", out=tmp_path / "moved", width=4, progress=False)
    assert [row.here for row in again.rows] == [row.here for row in found.rows]


def test_data_in_the_papers_shape_have_the_papers_settings(tmp_path: Path) -> None:
    images, (channels, classes, size) = PAPER_DATA["cifar10"]
    pixels = torch.rand(4 * classes, channels, *size)
    data = load_data((pixels, torch.arange(classes).repeat(4)), name="photos")
    one = cells.CellRuns(
        ITEMS["table2"], Cell("mtt", "cifar10", 10), data, tmp_path, 16, Accelerator(cpu=True)
    )
    assert images == 50_000
    assert (one.settings.loop.syn_steps, one.settings.run.zca) == (30, True)  # type: ignore[attr-defined]
    assert one.settings.run.network == "convnet:width=16"
    further = one.further(cells.CellPlan(1, {}, 0, 1.0))
    assert further == {"training images": "photos, 30 (cifar10, 50000)"}


@pytest.mark.parametrize("dataset", PAPER_DATA)
def test_settings_of_the_paper_without_effect_are_left_out(dataset: str, tmp_path: Path) -> None:
    _, (channels, classes, size) = PAPER_DATA[dataset]
    pixels = torch.rand(4 * classes, channels, *size)
    data = load_data((pixels, torch.arange(classes).repeat(4)), name="photos")
    one_step = {"outer_loop": 1}
    for item in ITEMS.values():
        for cell in (cell for cell in item.cells if cell.dataset == dataset):
            one = cells.CellRuns(item, cell, data, tmp_path, 8, Accelerator(cpu=True))
            changes = one_step if hasattr(one.settings.loop, "outer_loop") else {}
            assert not set(one.chosen(changes)) & set(one.shortened(changes).loop.unused)


def test_the_papers_data_are_found_or_named(tmp_path: Path) -> None:
    with pytest.raises(
        InputError,
        match=r"none of the data sets of Table 1 could be loaded \(torchvision finds no mnist",
    ):
        reproduce("table1", data_dir=tmp_path, out=tmp_path / "t", progress=False)
    with pytest.raises(InputError, match="are for the paper's data sets: leave them out"):
        reproduce("table1", data="digits", data_dir=tmp_path, progress=False)
    with pytest.raises(InputError, match="item 'table9'"):
        reproduce("table9")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds something else: choose another `out`"):
        reproduce("fig14", out=tmp_path / "mine", progress=False)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["table9"], "item 'table9'"),
        (["table1", "--budget", "0"], "--budget must be a number from 0.1 to 100000, got 0"),
        (["table1", "--dataset", "nowhere"], "dataset 'nowhere'"),
        (["table1", "--image-size", "16"], "--image-size and --background are for data that stand"),
        (["table1", "--width", "20000"], "--width must be a whole number from 1 to 10000"),
    ],
)
def test_the_command_refuses(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["reproduce", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_the_command_prints_the_table(
    tmp_path: Path,
    paces: Paces,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    small(monkeypatch, replace(SMALL, cells=SMALL.cells[:1]))
    turn(monkeypatch, 1000.0, 1000.0, 100.0, -1.0)
    arguments = ["--dataset", "digits", "--width", "4", "--out", str(tmp_path / "t")]
    assert main(["reproduce", "table1", *arguments]) == 0
    shown = capsys.readouterr().out
    assert "trial 1 of 1: dc on mnist, ipc 1" in shown
    assert "cell 1 of 1, 2 seeds: dc on mnist, ipc 1" in shown
    assert "The paper: the correction raises the accuracy in all 27 cells." in shown

"""``sdc-ext compare``: paired runs with several lam."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdc_ext._files import write_table, write_whole
from sdc_ext.cli.common import chosen_settings, data_label, make_accelerator, make_console
from sdc_ext.cli.distill import add_distillation, make_task, with_experts
from sdc_ext.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from sdc_ext.evaluation.comparison import Comparison


def add_compare(commands: Any, given: Sequence[str]) -> None:
    parser = commands.add_parser("compare", help="distil with several lam: is a gain signal?")
    add_distillation(parser, with_settings=given[:1] == ["compare"], without=("lam", "lam_ramp"))
    parser.add_argument(
        "--lam",
        type=float,
        nargs="+",
        default=[0.0, 0.002],
        help="weights; the first is what the others are compared to (default 0 0.002)",
    )
    parser.add_argument("--seeds", type=int, default=6, help="runs of each (default 6)")
    parser.add_argument("--out", type=Path, help="folder of the runs; finished ones are kept")
    parser.set_defaults(run=_compare)


def _compare(options: Namespace) -> None:
    from rich.console import Console

    from sdc_ext.adapters import get_method
    from sdc_ext.adapters.settings import resolve
    from sdc_ext.engine.engine import Engine
    from sdc_ext.evaluation.comparison import Cell, Comparison, grid

    if options.seeds < 2 or len(set(options.lam)) != len(options.lam) or len(options.lam) < 2:
        raise InputError(
            f"a comparison needs at least 2 seeds and 2 different lam, got {options.seeds} and "
            f"{' '.join(f'{lam:g}' for lam in options.lam)}"
        )
    method = get_method(options.method)
    overrides = chosen_settings(options)
    by_lam = {
        lam: resolve(method, options.dataset, options.ipc, {**overrides, "lam": lam})
        for lam in options.lam
    }
    settings = by_lam[options.lam[0]]
    name = f"compare-{method.name}-{data_label(options)}-ipc{options.ipc}"
    out = options.out or Path("runs") / name
    accelerator = make_accelerator(options.mixed_precision, None, out)
    console = make_console(accelerator)
    options.seed = 0  # of the experts, which all runs share
    task = with_experts(
        options, method, settings, make_task(options, settings, accelerator), console
    )
    console.print(task.data.describe())
    quiet = Console(quiet=True)
    engine = Engine(method, settings, task, 0, out, quiet)
    cells: list[Cell] = []
    for lam, seed in grid(options.lam, options.seeds):
        folder = _folder(out, lam, seed)
        cell = replace(engine, settings=by_lam[lam], seed=seed, out=folder)
        cells.append(Cell.of(cell.distill(resume=True), lam, seed, method.counts))
        done = f"run {len(cells)} of {len(options.lam) * options.seeds}"
        console.print(f"{done}: lam {lam:g}, seed {seed}: {100 * cells[-1].accuracy:.2f} %")
    if accelerator.is_main_process:
        _report(Comparison(tuple(cells)), out, console)


def _folder(out: Path, lam: float, seed: int) -> Path:
    return out / f"lam-{lam:g}" / f"seed-{seed}"


def _report(comparison: Comparison, out: Path, console: Console) -> None:
    from sdc_ext.report.figures import draw_differences, draw_tracking
    from sdc_ext.report.tables import accuracy_table, gain_table, tracking_table
    from sdc_ext.sets.history import read_history

    tracked = {
        lam: [read_history(_folder(out, lam, cell.seed)) for cell in comparison.of_lam(lam)]
        for lam in comparison.lams
    }

    write_table(comparison.rows(), out / "cells.csv")
    text = json.dumps(comparison.summary(), indent=1)
    write_whole(out / "comparison.json", lambda path: path.write_text(text))
    write_whole(out / "comparison.png", lambda path: draw_differences(comparison, path))
    write_whole(out / "tracking.png", lambda path: draw_tracking(tracked, path))
    console.print(tracking_table(tracked))
    console.print(accuracy_table(comparison))
    console.print(gain_table(comparison))
    console.print(f"cells.csv, comparison.json, comparison.png and tracking.png in {out}")

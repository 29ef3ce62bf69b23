"""``sdc-ext tune``: the search for lam on held-out training images."""

from __future__ import annotations

import csv
import importlib.util
import tempfile
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdc_ext.cli.common import (
    chosen_settings,
    data_label,
    make_accelerator,
    make_console,
    parse_seed,
)
from sdc_ext.cli.distill import add_distillation, make_task, with_experts
from sdc_ext.errors import InputError, check_positive
from sdc_ext.files import write_whole

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial
    from rich.console import Console

    from sdc_ext.adapters.settings import Settings
    from sdc_ext.tuning import Report, Tuning


def add_tune(commands: Any, given: Sequence[str]) -> None:
    parser = commands.add_parser("tune", help="search for lam on held-out training images")
    add_distillation(parser, with_settings=given[:1] == ["tune"], without=("lam", "lam_ramp"))
    parser.add_argument(
        "--lam",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        default=[1e-4, 0.1],
        help="where to search (default 0.0001 0.1)",
    )
    parser.add_argument("--ramp", action="store_true", help="search for a schedule of lam, too")
    parser.add_argument("--trials", type=int, default=20, help="of the study (default 20)")
    parser.add_argument("--storage", help="optuna's database URL (default: study.db in --out)")
    parser.add_argument("--study", help="its name (default: method, data set and ipc)")
    parser.add_argument("--seed", type=parse_seed, default=0, help="of everything (default 0)")
    parser.add_argument("--out", type=Path, help="folder of the study and its table")
    parser.set_defaults(run=_tune)


def _tune(options: Namespace) -> None:
    from rich.console import Console

    from sdc_ext.adapters import get_method
    from sdc_ext.adapters.settings import resolve
    from sdc_ext.engine import Engine

    if importlib.util.find_spec("optuna") is None:
        raise InputError("tune needs optuna: pip install 'sdc-ext[tune]'")
    from sdc_ext.tuning import FACTOR, SearchSpace, Tuning, rows

    check_positive(options, "trials")
    if options.experts is not None:
        raise InputError(
            "tune trains experts of its own, which have not seen the held-out images: leave "
            "--experts out"
        )
    low, high = options.lam
    space = SearchSpace(low, high, options.ramp)
    method = get_method(options.method)
    overrides = chosen_settings(options)
    iterations = resolve(method, options.dataset, options.ipc, overrides).run.iterations
    # Rungs at a ninth, a third and all of the iterations.
    overrides.setdefault("eval_every", max(1, iterations // FACTOR**2))
    settings = resolve(method, options.dataset, options.ipc, {**overrides, "lam": 0.0})
    name = options.study or f"{method.name}-{data_label(options)}-ipc{options.ipc}"
    out = options.out or Path("runs") / f"tune-{name}"
    accelerator = make_accelerator(options.mixed_precision, None, out)
    if accelerator.num_processes > 1:
        raise InputError("tune runs in one process: start it several times with one --storage")
    console = make_console(accelerator)
    task = make_task(options, settings, accelerator)
    task = replace(task, data=task.data.held_out())
    out.mkdir(parents=True, exist_ok=True)
    tuning = Tuning.open(
        options.storage or f"sqlite:///{out / 'study.db'}",
        name,
        space,
        _in_common(options, settings),
        iterations=iterations,
        first_rung=settings.run.eval_every,
        seed=options.seed,
    )
    console.print(f"{task.data.describe()}; the test images are a quarter of the training images")
    task = with_experts(options, method, settings, task, console, out / "experts")
    engine = Engine(method, settings, task, options.seed, out, Console(quiet=True))

    def run(chosen: Mapping[str, Any], report: Report) -> float:
        with tempfile.TemporaryDirectory() as folder:
            tried = resolve(method, options.dataset, options.ipc, {**overrides, **chosen})
            trial = replace(engine, settings=tried, out=Path(folder) / "run", on_evaluation=report)
            means = [float(row["mean"]) for row in trial.distill().info.accuracies]
        return means[-1] if method.counts == "last" else max(means)

    def say(trial: FrozenTrial) -> None:
        (row,) = rows([trial], iterations)
        console.print(
            f"trial {row['trial']}: {row['schedule']}, {100 * row['accuracy']:.2f} % after "
            f"{row['iterations']} iterations ({row['state']})"
        )

    tuning.search(run, options.trials, say)
    _report(tuning, out, console, f"sdc-ext compare {options.method}")


def _in_common(options: Namespace, settings: Settings) -> dict[str, Any]:
    """What all runs of a study share."""
    chosen = {name: setting.value for name, setting in settings.origin.items()}
    chosen.pop("lam_ramp")
    task = {"method": options.method, "dataset": data_label(options), "ipc": options.ipc}
    return {**task, "seed": options.seed, **chosen}


def _report(tuning: Tuning, out: Path, console: Console, compare: str) -> None:
    from sdc_ext.pictures import draw_search
    from sdc_ext.report import search_table
    from sdc_ext.tuning import rows

    table = rows(tuning.finished(), tuning.iterations)
    write_whole(out / "trials.csv", lambda path: _write_csv(table, path))
    write_whole(out / "trials.png", lambda path: draw_search(table, tuning.baseline, path))
    console.print(search_table(table, tuning.baseline))
    console.print(f"trials.csv and trials.png in {out}")
    best = table[0]
    if best["state"] == "complete":
        console.print(
            f"best: {best['schedule']}; one seed on held-out images is no proof: {compare} "
            f"--lam 0 {best['lam']:.3g} says whether it is signal"
        )


def _write_csv(table: Sequence[Mapping[str, Any]], path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)

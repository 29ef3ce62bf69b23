"""``sdc-ext tune``: the search for lam on held-out training images."""

from __future__ import annotations

import importlib.util
import tempfile
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdc_ext._files import write_table, write_whole
from sdc_ext.cli.common import (
    chosen_settings,
    data_label,
    make_accelerator,
    make_console,
    parse_seed,
)
from sdc_ext.cli.distill import add_distillation, make_task, with_experts
from sdc_ext.errors import InputError, check_positive

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial
    from rich.console import Console

    from sdc_ext.engine.tuning import Report, Tuning


def add_tune(commands: Any, given: Sequence[str]) -> None:
    parser = commands.add_parser("tune", help="search for lam on held-out training images")
    without = ("lam", "lam_ramp", "eval_every", "experts")
    add_distillation(parser, with_settings=given[:1] == ["tune"], without=without)
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
    # It trains experts of its own, which have not seen the held-out images.
    parser.set_defaults(run=_tune, experts=None)


def _tune(options: Namespace) -> None:
    from rich.console import Console

    from sdc_ext.adapters import get_method
    from sdc_ext.adapters.settings import resolve
    from sdc_ext.engine.engine import Engine

    if importlib.util.find_spec("optuna") is None:
        raise InputError("tune needs optuna: pip install 'sdc-ext[tune]'")
    from sdc_ext.engine.tuning import SearchSpace, Tuning, rows, rungs

    check_positive(options, "trials")
    low, high = options.lam
    space = SearchSpace(low, high, options.ramp)
    method = get_method(options.method)
    overrides = chosen_settings(options)
    settings = resolve(method, options.dataset, options.ipc, {**overrides, "lam": 0.0})
    name = options.study or f"{method.name}-{data_label(options)}-ipc{options.ipc}"
    out = options.out or Path("runs") / f"tune-{name}"
    accelerator = make_accelerator(options.mixed_precision, None, out)
    if accelerator.num_processes > 1:
        raise InputError("tune runs in one process: start it several times with one --storage")
    console = make_console(accelerator)
    task = make_task(options, settings, accelerator)
    task = replace(task, data=task.data.held_out())
    engine = Engine(method, settings, task, options.seed, out, Console(quiet=True))
    iterations = settings.run.iterations
    out.mkdir(parents=True, exist_ok=True)
    storage = options.storage or f"sqlite:///{out / 'study.db'}"
    identity = {k: v for k, v in engine.identity().items() if k not in ("lam", "lam_ramp")}
    tuning = Tuning.open(storage, name, space, identity, iterations=iterations, seed=options.seed)
    console.print(f"{task.data.describe()}; the test images are a quarter of the training images")
    if len(tuning.finished()) < options.trials:
        task = with_experts(options, method, settings, task, console, out / "experts")
        engine = replace(engine, task=task, evaluate_at=rungs(iterations))

    def run(chosen: Mapping[str, Any], report: Report) -> float:
        with tempfile.TemporaryDirectory() as folder:
            tried = resolve(method, options.dataset, options.ipc, {**overrides, **chosen})
            where = Path(folder) / "run"
            trial = replace(engine, settings=tried, out=where, on_evaluation=report)
            means = [float(row["mean"]) for row in trial.distill().info.accuracies]
        return means[-1] if method.counts == "last" else max(means)

    def say(trial: FrozenTrial) -> None:
        (row,) = rows([trial], iterations)
        accuracy = "" if row["accuracy"] is None else f"{100 * row['accuracy']:.2f} % "
        console.print(
            f"trial {row['trial']}: {row['schedule']}, {accuracy}after "
            f"{row['iterations']} iterations ({row['state']})"
        )

    tuning.search(run, options.trials, say)
    _report(tuning, out, console)


def _report(tuning: Tuning, out: Path, console: Console) -> None:
    from sdc_ext.engine.tuning import rows
    from sdc_ext.report.figures import draw_search
    from sdc_ext.report.tables import search_table

    table = rows(tuning.finished(), tuning.iterations)
    write_table(table, out / "trials.csv")
    write_whole(out / "trials.png", lambda path: draw_search(table, tuning.baseline, path))
    console.print(search_table(table, tuning.baseline))
    console.print(f"trials.csv and trials.png in {out}")
    best = table[0]
    if best["state"] != "complete":
        return
    if tuning.baseline is not None and best["accuracy"] <= tuning.baseline:
        console.print("no lam did better than --lam 0 here")
        return
    console.print(f"best: {best['schedule']}; one seed on held-out images is no proof of a gain.")
    if best["schedule"].startswith("--lam "):
        console.print(
            "Compare it, with the other options as they are here: sdc-ext compare ... "
            f"--lam 0 {best['lam']:.3g} --seeds 10"
        )

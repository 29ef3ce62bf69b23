"""``sdc-ext distill``."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdc_ext.cli.common import (
    add_data,
    add_settings,
    chosen_settings,
    data_label,
    load_chosen_data,
    make_accelerator,
    make_console,
    parse_seed,
    whole_ramp,
)
from sdc_ext.cli.experts import EXPERTS, experts_for_run

if TYPE_CHECKING:
    from accelerate import Accelerator
    from rich.console import Console

    from sdc_ext.adapters.base import Method
    from sdc_ext.adapters.settings import Settings
    from sdc_ext.adapters.task import Task


def add_distill(commands: Any, given: Sequence[str]) -> None:
    parser = commands.add_parser("distill", help="distil a data set into few images")
    add_distillation(parser, with_settings=given[:1] == ["distill"])
    parser.add_argument(
        "--seed", type=parse_seed, default=0, help="of everything random (default 0)"
    )
    parser.add_argument("--out", type=Path, help="folder of the distilled set")
    parser.add_argument("--resume", action="store_true", help="continue the run in --out, if any")
    parser.add_argument("--tracker", help="log to it through Accelerate, e.g. tensorboard")
    parser.set_defaults(run=_distill)


def add_distillation(
    parser: ArgumentParser, *, with_settings: bool, without: Sequence[str] = ()
) -> None:
    """Adds what commands that distil have in common.

    Args:
        parser: of the command.
        with_settings: whether the methods' settings are added, for which they are imported.
        without: options that the command lacks, or has in a form of its own.
    """
    parser.add_argument(
        "method", metavar="METHOD", help="dc, dsa, dcc, dsac, dm, mtt, ftd, tesla or datm"
    )
    add_data(parser, "digits", "digits")
    parser.add_argument("--ipc", type=int, default=1, help="images per class (default 1)")
    if "experts" not in without:
        parser.add_argument(
            "--experts", type=Path, help="folder of expert trajectories, ours or replay_buffer_*.pt"
        )
    parser.add_argument(
        "--mixed-precision",
        choices=("no", "bf16"),
        default="no",
        help="of networks that are trained and of real gradients",
    )
    parser.add_argument("--compile", action="store_true", help="compile it (needs a C++ compiler)")
    if with_settings:
        _add_settings(parser, set(without))


def _add_settings(parser: ArgumentParser, known: set[str]) -> None:
    """One option a setting of any method, named as in the originals, but those known already."""
    from sdc_ext.adapters import METHODS
    from sdc_ext.adapters.run_settings import RunSettings

    group = parser.add_argument_group("settings, by default those of the originals and the paper")
    classes: list[type[Any]] = [RunSettings, *(method.loop for method in METHODS.values())]
    for cls in classes:
        add_settings(group, cls, known)
        known |= {setting.name for setting in fields(cls)}


def _distill(options: Namespace) -> None:
    from sdc_ext.adapters import get_method
    from sdc_ext.adapters.settings import resolve
    from sdc_ext.engine.engine import Engine
    from sdc_ext.report.tables import settings_table, summary
    from sdc_ext.sets.history import read_history

    method = get_method(options.method)
    overrides = chosen_settings(options)
    if "lam_ramp" in overrides:
        overrides["lam_ramp"] = whole_ramp(overrides["lam_ramp"])
    settings = resolve(method, options.dataset, options.ipc, overrides)
    out = options.out or Path("runs") / f"{method.name}-{data_label(options)}-ipc{options.ipc}"
    accelerator = make_accelerator(options.mixed_precision, options.tracker, out)
    console = make_console(accelerator)
    task = make_task(options, settings, accelerator)
    engine = Engine(method, settings, task, options.seed, out, console)
    engine.check_folder(options.resume)
    console.print(task.data.describe())
    console.print(settings_table(settings))
    task = with_experts(options, method, settings, task, console)
    synthetic = replace(engine, task=task).distill(resume=options.resume)
    if accelerator.is_main_process:  # it alone has the history
        console.print(summary(synthetic, method.counts, read_history(out)))
    console.print(f"distilled set and picture: {out}")


def make_task(options: Namespace, settings: Settings, accelerator: Accelerator) -> Task:
    """What is distilled, without experts."""
    from sdc_ext.adapters.task import Task

    data = load_chosen_data(options, accelerator, settings.run)
    return Task(data, options.ipc, settings.run.network, accelerator, options.compile)


def with_experts(
    options: Namespace,
    method: Method,
    settings: Settings,
    task: Task,
    console: Console,
    root: Path = EXPERTS,
) -> Task:
    """The same with the experts that the method matches, if it matches any, kept in ``root``."""
    if method.experts is None and options.experts is None:
        return task
    return replace(task, experts=experts_for_run(options, method, settings, task, console, root))

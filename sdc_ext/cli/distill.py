"""``sdc-ext distill``."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_type_hints

from sdc_ext.cli.common import (
    add_data,
    add_setting,
    chosen_settings,
    data_label,
    load_chosen_data,
    make_accelerator,
    make_console,
    parse_seed,
    whole_ramp,
)
from sdc_ext.cli.experts import experts_for_run


def add_distill(commands: Any, given: Sequence[str]) -> None:
    parser = commands.add_parser("distill", help="distil a data set into few images")
    parser.add_argument(
        "method", metavar="METHOD", help="dc, dsa, dcc, dsac, mtt, ftd, tesla or datm"
    )
    add_data(parser, "digits", "digits")
    parser.add_argument("--ipc", type=int, default=1, help="images per class (default 1)")
    parser.add_argument(
        "--seed", type=parse_seed, default=0, help="of everything random (default 0)"
    )
    parser.add_argument("--out", type=Path, help="folder of the distilled set")
    parser.add_argument(
        "--experts", type=Path, help="folder of expert trajectories, ours or replay_buffer_*.pt"
    )
    parser.add_argument("--resume", action="store_true", help="continue the run in --out, if any")
    parser.add_argument(
        "--mixed-precision",
        choices=("no", "bf16"),
        default="no",
        help="of networks that are trained and of real gradients",
    )
    parser.add_argument("--compile", action="store_true", help="compile it (needs a C++ compiler)")
    parser.add_argument("--tracker", help="log to it through Accelerate, e.g. tensorboard")
    if given[:1] == ["distill"]:  # other commands need not import the methods
        _add_settings(parser)
    parser.set_defaults(run=_distill)


def _add_settings(parser: ArgumentParser) -> None:
    """One option a setting of any method, named as in the originals."""
    from sdc_ext.adapters import METHODS
    from sdc_ext.adapters.base import RunSettings

    group = parser.add_argument_group("settings, by default those of the originals and the paper")
    known: set[str] = set()
    classes: list[type[Any]] = [RunSettings, *(method.loop for method in METHODS.values())]
    for cls in classes:
        types = get_type_hints(cls)
        for setting in fields(cls):
            if setting.name not in known:
                add_setting(group, setting, types[setting.name])
                known.add(setting.name)


def _distill(options: Namespace) -> None:
    from sdc_ext.adapters import get_method
    from sdc_ext.adapters.base import Task
    from sdc_ext.adapters.settings import resolve
    from sdc_ext.engine import Engine
    from sdc_ext.report import settings_table, summary

    method = get_method(options.method)
    overrides = chosen_settings(options)
    if "lam_ramp" in overrides:
        overrides["lam_ramp"] = whole_ramp(overrides["lam_ramp"])
    settings = resolve(method, options.dataset, options.ipc, overrides)
    out = options.out or Path("runs") / f"{method.name}-{data_label(options)}-ipc{options.ipc}"
    accelerator = make_accelerator(options.mixed_precision, options.tracker, out)
    console = make_console(accelerator)
    data = load_chosen_data(options, accelerator, settings.run)
    task = Task(data, options.ipc, settings.run.network, accelerator, options.compile)
    engine = Engine(method, settings, task, options.seed, out, console)
    engine.check_folder(options.resume)
    console.print(data.describe())
    console.print(settings_table(settings))
    if method.experts is not None or options.experts is not None:
        experts = experts_for_run(options, method, settings, task, console)
        engine = replace(engine, task=replace(task, experts=experts))
    synthetic = engine.distill(resume=options.resume)
    console.print(summary(synthetic, method.counts))
    console.print(f"distilled set and picture: {out}")

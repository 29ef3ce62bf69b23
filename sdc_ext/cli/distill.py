"""``sdc-ext distill``."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from sdc_ext.adapters import METHODS, get_method, known_methods, resolve
from sdc_ext.adapters.run_settings import RunSettings
from sdc_ext.cli.data import data_label, load_chosen_data
from sdc_ext.cli.options import add_data, add_settings, chosen_settings, parse_seed, whole_ramp
from sdc_ext.report.tables import summary
from sdc_ext.sets.history import read_history
from sdc_ext.verbs.distillation import distill
from sdc_ext.verbs.session import make_accelerator, make_console


def add_options(parser: ArgumentParser) -> None:
    """Adds the options of the command to its parser."""
    add_distillation(parser)
    parser.add_argument(
        "--seed", type=parse_seed, default=0, help="of everything random (default 0)"
    )
    parser.add_argument("--out", type=Path, help="folder of the distilled set")
    parser.add_argument("--resume", action="store_true", help="continue the run in --out, if any")
    parser.add_argument("--tracker", help="log to it through Accelerate, e.g. tensorboard")
    parser.set_defaults(run=_distill)


def add_distillation(parser: ArgumentParser, without: Sequence[str] = ()) -> None:
    """Adds what commands that distil have in common.

    Args:
        parser: of the command.
        without: options that the command lacks, or has in a form of its own.
    """
    parser.add_argument("method", metavar="METHOD", help=", ".join(METHODS.names()))
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
    _add_settings(parser, set(without))


def _add_settings(parser: ArgumentParser, known: set[str]) -> None:
    """One option a setting of any method, named as in the originals, but those known already."""
    group = parser.add_argument_group("settings, by default those of the originals and the paper")
    classes: list[type[Any]] = [RunSettings, *(method.loop for method in known_methods())]
    for cls in classes:
        add_settings(group, cls, known)
        known |= {setting.name for setting in fields(cls)}


def _distill(options: Namespace) -> None:
    method = get_method(options.method)
    settings = chosen_settings(options)
    if "lam_ramp" in settings:
        settings["lam_ramp"] = whole_ramp(settings["lam_ramp"])
    out = options.out or Path("runs") / f"{method.name}-{data_label(options)}-ipc{options.ipc}"
    resolve(method, options.dataset, options.ipc, settings)  # fails before the data are loaded
    accelerator = make_accelerator(options.mixed_precision, options.tracker, out)
    synthetic = distill(
        method.name,
        load_chosen_data(options, accelerator),
        ipc=options.ipc,
        out=out,
        seed=options.seed,
        experts=options.experts,
        resume=options.resume,
        compile=options.compile,
        accelerator=accelerator,
        **settings,
    )
    console = make_console(accelerator)
    if accelerator.is_main_process:  # it alone has the history
        console.print(summary(synthetic, method.selects, read_history(out)))
    console.print(f"distilled set and picture: {out}")

"""``sdc-ext distill``."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from sdc_ext.adapters import get_method, resolve
from sdc_ext.cli.data import data_label, load_chosen_data
from sdc_ext.cli.distillation import add_distillation
from sdc_ext.cli.options import PLACE, TEXT, add_seed, add_workers, chosen_settings
from sdc_ext.engine.run_folder import RunFolder
from sdc_ext.report.tables import summary
from sdc_ext.sets.history import read_history
from sdc_ext.verbs.distillation import distill
from sdc_ext.verbs.session import check_start, make_accelerator, make_console


def add_options(parser: ArgumentParser) -> None:
    """Adds the options of the command to its parser."""
    first = add_distillation(parser)
    add_seed(first)
    first.add_argument(
        "--out",
        type=PLACE,
        metavar="FOLDER",
        help="folder of the distilled set (default: runs/METHOD-DATASET-ipcN)",
    )
    first.add_argument("--resume", action="store_true", help="continue the run in that folder")
    parser.add_argument(
        "--tracker", type=TEXT, metavar="NAME", help="log through Accelerate, e.g. to tensorboard"
    )
    add_workers(parser, "evaluation networks and experts")
    parser.set_defaults(run=_distill)


def _distill(options: Namespace) -> None:
    method = get_method(options.method)
    settings = chosen_settings(options)
    out = options.out or Path("runs") / f"{method.name}-{data_label(options)}-ipc{options.ipc}"
    resolve(method, options.data, options.ipc, settings)  # fails before the data are loaded
    check_start(method, out, options.experts)
    RunFolder(out, {}).check(resume=options.resume)
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
        workers=options.workers,
        accelerator=accelerator,
        **settings,
    )
    console = make_console(accelerator)
    if accelerator.is_main_process:  # it alone has the history
        console.print(summary(synthetic, method.selects, read_history(out)))
    console.print(f"distilled set and picture: {out}")

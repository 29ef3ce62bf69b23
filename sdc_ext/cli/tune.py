"""``sdc-ext tune``: the search for lam on held-out training images."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

import sdc_ext
from sdc_ext.adapters import get_method, resolve
from sdc_ext.cli.data import load_chosen_data
from sdc_ext.cli.distillation import add_distillation
from sdc_ext.cli.options import COUNT, PLACE, RATE, TEXT, add_seed, add_workers, chosen_settings
from sdc_ext.strength import STRENGTHS
from sdc_ext.verbs.session import check_start, make_accelerator, make_console


def add_options(parser: ArgumentParser) -> None:
    """Adds the options of the command to its parser."""
    first = add_distillation(parser, without=(*STRENGTHS, "eval_every", "experts"))
    _add_search(first)
    add_seed(first)
    _add_study(first)
    add_workers(parser, "trials")
    parser.set_defaults(run=_tune)


def _add_search(group: Any) -> None:
    """Adds the options that say what is searched, and for how long."""
    for name, text in (
        ("lam", "range of lam that is searched (default: 0.0001 0.1)"),
        ("share", "range of shares that is searched instead, e.g. 0.01 1"),
    ):
        group.add_argument(
            f"--{name}", dest=f"{name}s", type=RATE, nargs=2, metavar=("LOW", "HIGH"), help=text
        )
    group.add_argument("--ramp", action="store_true", help="search for ramps (adaptive SDC), too")
    group.add_argument(
        "--trials", type=COUNT, metavar="N", default=20, help="number of trials (default: 20)"
    )


def _add_study(group: Any) -> None:
    """Adds the options that say where the trials are kept."""
    group.add_argument(
        "--out", type=PLACE, metavar="FOLDER", help="folder of the study and its table"
    )
    group.add_argument(
        "--storage", type=TEXT, metavar="URL", help="optuna's database (default: study.db in --out)"
    )
    group.add_argument(
        "--study",
        type=TEXT,
        metavar="NAME",
        help="its name there (default: method, data set and ipc)",
    )


def _tune(options: Namespace) -> None:
    tune = sdc_ext.tune  # says so if optuna, an extra, is missing
    method = get_method(options.method)
    lams, shares = (pair and tuple(pair) for pair in (options.lams, options.shares))
    settings = chosen_settings(options)
    resolve(method, options.data, options.ipc, settings)  # fails before the data are loaded
    check_start(method, options.out)
    accelerator = make_accelerator(options.mixed_precision)
    tuned = tune(
        method.name,
        load_chosen_data(options, accelerator),
        lams=lams,
        shares=shares,
        ramp=options.ramp,
        trials=options.trials,
        ipc=options.ipc,
        out=options.out,
        storage=options.storage,
        study=options.study,
        seed=options.seed,
        compile=options.compile,
        workers=options.workers,
        accelerator=accelerator,
        **settings,
    )
    console = make_console(accelerator)
    console.print(tuned)
    console.print(f"trials.csv and trials.png in {tuned.out}")
    console.print(tuned.advice)

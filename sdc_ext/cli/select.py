"""``sdc-ext select``: choose real images and store them as a distilled set."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from sdc_ext.cli.data import data_label, load_chosen_data
from sdc_ext.cli.options import (
    COUNT,
    FACTOR,
    PLACE,
    TEXT,
    add_data,
    add_seed,
    add_settings,
    chosen_settings,
)
from sdc_ext.errors import check_choice
from sdc_ext.evaluation.selection import BASELINES
from sdc_ext.report.tables import summary
from sdc_ext.training.probe import Probe
from sdc_ext.verbs.selection import select_set
from sdc_ext.verbs.session import check_free, make_accelerator, make_console


def add_options(parser: ArgumentParser) -> None:
    """Adds the options of the command to its parser."""
    parser.add_argument(
        "baseline", metavar="BASELINE", help="random, herding, k-center or forgetting"
    )
    add_data(parser, "digits", "digits")
    parser.add_argument("--ipc", type=COUNT, default=1, help="images per class (default: 1)")
    parser.add_argument(
        "--factor",
        type=FACTOR,
        default=1,
        help="store N x N shrunk images in each of these (default: 1)",
    )
    add_seed(parser)
    parser.add_argument(
        "--like",
        type=TEXT,
        default="dc",
        metavar="METHOD",
        help="method whose evaluation settings the set gets (default: dc)",
    )
    parser.add_argument("--out", type=PLACE, help="folder of the set")
    group = parser.add_argument_group(
        "the network on whose features or mistakes all but random choose"
    )
    add_settings(group, Probe)
    parser.set_defaults(run=_select)


def _select(options: Namespace) -> None:
    check_choice("baseline", options.baseline, BASELINES)
    out = options.out or Path("runs") / f"{options.baseline}-{data_label(options)}-ipc{options.ipc}"
    check_free(out)
    accelerator = make_accelerator()
    synthetic = select_set(
        options.baseline,
        load_chosen_data(options, accelerator),
        ipc=options.ipc,
        factor=options.factor,
        like=options.like,
        out=out,
        seed=options.seed,
        accelerator=accelerator,
        **chosen_settings(options),
    )
    console = make_console(accelerator)
    console.print(summary(synthetic, "last"))
    console.print(f"set and picture: {out}")

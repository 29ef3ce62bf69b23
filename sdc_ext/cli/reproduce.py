"""``sdc-ext reproduce``: the paper's tables and figures within a budget of time."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

from sdc_ext._values import kind_of
from sdc_ext.cli.data import load_chosen_data
from sdc_ext.cli.options import PLACE, add_data, add_workers
from sdc_ext.errors import InputError
from sdc_ext.reproduction import ITEMS
from sdc_ext.verbs.reproduction import Channels, Minutes, reproduce
from sdc_ext.verbs.session import make_accelerator, make_console


def add_options(parser: ArgumentParser) -> None:
    """Adds the options of the command to its parser."""
    parser.add_argument("item", metavar="ITEM", choices=tuple(ITEMS), help=", ".join(ITEMS))
    parser.add_argument(
        "--budget",
        type=kind_of(Minutes),
        metavar="MINUTES",
        default=60.0,
        help="time for trials, experts and runs, in minutes (default: 60)",
    )
    add_data(parser, None, "the paper's that are in --data-dir; without it, digits stand in")
    parser.add_argument(
        "--width",
        type=kind_of(Channels),
        metavar="N",
        default=32,
        help="number of channels of the ConvNet (default: 32; the paper's has 128)",
    )
    parser.add_argument(
        "--out",
        type=PLACE,
        metavar="FOLDER",
        help="folder of the runs and the page; finished runs are kept, and the same command adds "
        "seeds (default: runs/reproduce-ITEM)",
    )
    add_workers(parser, "runs and experts")
    parser.set_defaults(run=_run)


def _run(options: Namespace) -> None:
    accelerator = make_accelerator()
    data: dict[str, Any] = {"data_dir": options.data_dir, "download": options.download}
    if options.data is None and (options.image_size or options.background != "white"):
        raise InputError(
            "`image_size` and `background` are for data that stand in: name these by `data`"
        )
    if options.data is not None:
        data = {"data": load_chosen_data(options, accelerator)}
    reproduced = reproduce(
        options.item,
        options.budget,
        **data,
        width=options.width,
        out=options.out,
        workers=options.workers,
        accelerator=accelerator,
    )
    console = make_console(accelerator)
    console.print(reproduced)
    console.print(f"index.html, reproduction.csv and runs in {reproduced.out}")

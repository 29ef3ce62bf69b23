"""``sdc-ext compare``: paired runs with several lam."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from sdc_ext.adapters import get_method, resolve
from sdc_ext.cli.data import load_chosen_data
from sdc_ext.cli.distillation import add_distillation
from sdc_ext.cli.options import COUNT, PLACE, WEIGHT, chosen_settings
from sdc_ext.verbs.comparison import compare
from sdc_ext.verbs.session import check_start, make_accelerator, make_console


def add_options(parser: ArgumentParser) -> None:
    """Adds the options of the command to its parser."""
    first = add_distillation(parser, without=("lam", "lam_ramp"))
    first.add_argument(
        "--lam",
        type=WEIGHT,
        nargs="+",
        metavar="X",
        default=[0.0, 0.002],
        help="weights, of which the others are compared to the first (default: 0 0.002)",
    )
    first.add_argument(
        "--seeds", type=COUNT, metavar="N", default=6, help="number of runs per lam (default: 6)"
    )
    first.add_argument(
        "--out", type=PLACE, metavar="FOLDER", help="folder of the runs; finished ones are kept"
    )
    parser.set_defaults(run=_compare)


def _compare(options: Namespace) -> None:
    method = get_method(options.method)
    settings = chosen_settings(options)
    resolve(method, options.dataset, options.ipc, settings)  # fails before the data are loaded
    check_start(method, options.out, options.experts)
    accelerator = make_accelerator(options.mixed_precision)
    compared = compare(
        method.name,
        load_chosen_data(options, accelerator),
        lams=options.lam,
        seeds=options.seeds,
        ipc=options.ipc,
        out=options.out,
        experts=options.experts,
        compile=options.compile,
        accelerator=accelerator,
        **settings,
    )
    console = make_console(accelerator)
    if accelerator.is_main_process:  # it alone has the histories
        console.print(compared)
    console.print(f"cells.csv, comparison.json, comparison.png and tracking.png in {compared.out}")

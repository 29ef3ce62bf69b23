"""``sdc-ext discrepancy``: how far sets are from the real data, beside random real images."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from sdc_ext._values import kind_of
from sdc_ext.cli.folders import claim_folder
from sdc_ext.cli.options import COUNT, NAMES, PLACE, add_seed, add_settings, chosen_settings
from sdc_ext.cli.sets import SET_HELP, add_set_data, open_named_sets
from sdc_ext.evaluation.closeness import SPACES
from sdc_ext.evaluation.discrepancies import DISCREPANCIES
from sdc_ext.training.probe import Probe
from sdc_ext.verbs.discrepancy import Draws, Measurement, measure_sets
from sdc_ext.verbs.opening import common_probe
from sdc_ext.verbs.session import check_free, make_accelerator, make_console


def add_options(parser: ArgumentParser) -> None:
    """Adds the options of the command to its parser."""
    parser.add_argument("sets", type=PLACE, nargs="+", metavar="SET", help=SET_HELP)
    add_set_data(parser, trained_on=False)
    parser.add_argument(
        "--measures",
        type=NAMES,
        default=list(DISCREPANCIES),
        help="comma-separated: mmd-linear, mmd-gaussian, mmd-laplacian, mmd-polynomial, energy, "
        "coverage (default: these); with sdc-ext[ot] sliced, wasserstein, sinkhorn-0.5, "
        "sinkhorn-0.1",
    )
    parser.add_argument(
        "--spaces",
        type=NAMES,
        default=list(SPACES),
        help="comma-separated: pixels, and features of random and trained networks (default: all)",
    )
    parser.add_argument(
        "--draws", type=kind_of(Draws), default=20, help="number of random real sets (default: 20)"
    )
    parser.add_argument(
        "--max-real",
        type=COUNT,
        default=2000,
        help="most real images to compare with, per class and in all (default: 2000)",
    )
    add_seed(parser)
    parser.add_argument("--out", type=PLACE, help="folder of the table and the chart")
    add_settings(parser.add_argument_group("the networks that compute features"), Probe)
    parser.set_defaults(run=_discrepancy)


def _discrepancy(options: Namespace) -> None:
    how = Measurement(
        measures=options.measures,
        spaces=options.spaces,
        draws=options.draws,
        max_real=options.max_real,
        seed=options.seed,
    )
    check_free(options.out)
    accelerator = make_accelerator()
    console = make_console(accelerator)
    opened = open_named_sets(options, accelerator)
    probe = common_probe(opened, chosen_settings(options))
    out = None
    if accelerator.is_main_process:
        out = claim_folder(options.out, "discrepancy", options.sets)
    measured = measure_sets(opened, how, probe, out=out, accelerator=accelerator, console=console)
    console.print(measured)
    console.print(f"discrepancies.csv and discrepancies.png in {out}")

"""``sdc-ext difficulty``: how hard real and distilled samples are (Figures 3 and 7 to 12)."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from sdc_ext.cli.data import load_chosen_data
from sdc_ext.cli.folders import check_results, save_and_print
from sdc_ext.cli.options import COUNT, PLACE, add_seed, add_settings, add_workers, chosen_settings
from sdc_ext.cli.sets import SET_HELP, add_set_data, open_named_sets
from sdc_ext.errors import InputError
from sdc_ext.training.probe import Probe
from sdc_ext.verbs.difficulty import difficulty_of
from sdc_ext.verbs.session import make_accelerator


def add_options(parser: ArgumentParser) -> None:
    """Adds the options of the command to its parser."""
    parser.add_argument("sets", type=PLACE, nargs="*", metavar="SET", help=SET_HELP)
    add_set_data(parser, trained_on=False)
    parser.add_argument(
        "--split",
        choices=("test", "train"),
        default="test",
        help="split of the real images (default: test)",
    )
    parser.add_argument(
        "--per-class",
        type=COUNT,
        default=100,
        help="number of real images per class (default: 100)",
    )
    parser.add_argument(
        "--num-networks",
        type=COUNT,
        default=20,
        help="size of the ensemble (default: 20, as in the paper)",
    )
    parser.add_argument(
        "--epochs", type=COUNT, nargs="+", help="epochs after which to score (default: the last)"
    )
    add_seed(parser)
    parser.add_argument("--out", type=PLACE, help="folder of the table and the picture")
    add_workers(parser, "networks")
    add_settings(parser.add_argument_group("the networks, trained on real images"), Probe)
    parser.set_defaults(run=_difficulty)


def _difficulty(options: Namespace) -> None:
    check_results(options.out, options.sets)
    if not options.sets and (options.zca, options.factor) != (None, None):
        raise InputError("`zca` and `factor` say what sets are like: name a set, or leave them out")
    accelerator = make_accelerator()
    opened = open_named_sets(options, accelerator)
    data = None
    if not opened:
        options.data = options.data or "digits"
        data = load_chosen_data(options, accelerator)
    measured = difficulty_of(
        opened,
        data,
        split=options.split,
        per_class=options.per_class,
        num_networks=options.num_networks,
        epochs=options.epochs,
        seed=options.seed,
        workers=options.workers,
        accelerator=accelerator,
        **chosen_settings(options),
    )
    files = "difficulty.csv, classes.csv and the pictures"
    save_and_print(measured, files, accelerator, options.out, "difficulty", options.sets)

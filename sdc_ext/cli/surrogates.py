"""``sdc-ext surrogates``: what methods match, beside the accuracies of sets."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from sdc_ext.cli.folders import check_results, save_and_print
from sdc_ext.cli.options import (
    COUNT,
    PLACE,
    add_seed,
    add_settings,
    add_workers,
    chosen_settings,
)
from sdc_ext.cli.sets import SET_HELP, add_set_data, open_named_sets
from sdc_ext.training.probe import Probe
from sdc_ext.verbs.session import make_accelerator
from sdc_ext.verbs.surrogates import surrogates_of


def add_options(parser: ArgumentParser) -> None:
    """Adds the options of the command to its parser."""
    parser.add_argument("sets", type=PLACE, nargs="+", metavar="SET", help=SET_HELP)
    add_set_data(parser)
    counts = {
        "--num-eval": (5, "number of networks that are trained on each set"),
        "--epoch-eval-train": (None, "number of epochs of that training"),
        "--inner-steps": (20, "steps of students on a set, for the trajectory"),
        "--expert-epochs": (3, "epochs on the real images that they are compared with"),
        "--max-real": (500, "most real images per class to compare with"),
    }
    for flag, (default, text) in counts.items():
        usual = "the set's own" if default is None else default
        parser.add_argument(flag, type=COUNT, default=default, help=f"{text} (default: {usual})")
    add_seed(parser)
    add_workers(parser, "networks")
    parser.add_argument("--out", type=PLACE, help="folder of the tables and the chart")
    add_settings(parser.add_argument_group("the networks under which sets are compared"), Probe)
    parser.set_defaults(run=_surrogates)


def _surrogates(options: Namespace) -> None:
    check_results(options.out, options.sets)
    accelerator = make_accelerator()
    measured = surrogates_of(
        open_named_sets(options, accelerator),
        num_eval=options.num_eval,
        epoch_eval_train=options.epoch_eval_train,
        lr=options.lr,
        inner_steps=options.inner_steps,
        expert_epochs=options.expert_epochs,
        max_real=options.max_real,
        seed=options.seed,
        workers=options.workers,
        accelerator=accelerator,
        **chosen_settings(options),
    )
    files = (
        f"surrogates.csv{', correlations.csv' if measured.correlations else ''} and surrogates.png"
    )
    save_and_print(measured, files, accelerator, options.out, "surrogates", options.sets)

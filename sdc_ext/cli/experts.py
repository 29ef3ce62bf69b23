"""``sdc-ext experts``: train and store expert trajectories."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from sdc_ext.adapters import get_method
from sdc_ext.cli.data import load_chosen_data
from sdc_ext.cli.options import (
    COUNT,
    PLACE,
    TEXT,
    add_data,
    add_seed,
    add_settings,
    add_workers,
    chosen_settings,
)
from sdc_ext.experts.recipe import ExpertRecipe
from sdc_ext.verbs.experts import train_experts
from sdc_ext.verbs.session import check_export, check_start, make_accelerator


def add_options(parser: ArgumentParser) -> None:
    """Adds the options of the command to its parser."""
    parser.add_argument(
        "method", metavar="METHOD", help="method that matches them: mtt, ftd, tesla or datm"
    )
    add_data(parser, "digits", "digits")
    parser.add_argument(
        "--num-experts", type=COUNT, default=100, help="number of experts (default: 100)"
    )
    parser.add_argument(
        "--network", type=TEXT, help="network to train (default: the method's for these data)"
    )
    parser.add_argument(
        "--ipc",
        type=COUNT,
        default=1,
        help="images per class of the distillation: recipes depend on it (default: 1)",
    )
    parser.add_argument("--zca", action="store_true", default=None, help="whiten the images by ZCA")
    parser.add_argument("--no-zca", action="store_false", dest="zca", help="do not whiten them")
    add_seed(parser)
    parser.add_argument(
        "--out", type=PLACE, help="folder of the experts (default: where distill finds them)"
    )
    parser.add_argument(
        "--export", type=PLACE, help="folder for replay_buffer_*.pt as MTT's script writes them"
    )
    group = parser.add_argument_group("training, by default as in the method's original repository")
    add_settings(group, ExpertRecipe)
    add_workers(parser, "experts")
    parser.set_defaults(run=_run)


def _run(options: Namespace) -> None:
    # Before the data are loaded.
    check_start(get_method(options.method), options.out)
    check_export(options.export)
    accelerator = make_accelerator()
    train_experts(
        options.method,
        load_chosen_data(options, accelerator),
        num_experts=options.num_experts,
        ipc=options.ipc,
        network=options.network,
        zca=options.zca,
        out=options.out,
        export=options.export,
        seed=options.seed,
        workers=options.workers,
        accelerator=accelerator,
        **chosen_settings(options),
    )

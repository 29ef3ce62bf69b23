"""``sdc-ext membership``: whether networks show which images their sets were made from."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from sdc_ext.cli.data import load_chosen_data
from sdc_ext.cli.folders import check_results, save_and_print
from sdc_ext.cli.options import COUNT, PLACE, TEXT, add_data, add_seed, add_workers
from sdc_ext.verbs.membership import membership_of
from sdc_ext.verbs.session import make_accelerator


def add_options(parser: ArgumentParser) -> None:
    """Adds the options of the command to its parser."""
    parser.add_argument(
        "method",
        type=TEXT,
        metavar="METHOD",
        help="method that matches no experts, or random, herding, k-center, forgetting",
    )
    add_data(parser, "digits", "digits")
    parser.add_argument("--ipc", type=COUNT, default=1, help="images per class (default: 1)")
    parser.add_argument(
        "--shadows",
        type=COUNT,
        default=16,
        help="number of sets of random halves, even and at least 6 (default: 16)",
    )
    parser.add_argument(
        "--images", type=COUNT, default=200, help="most audited images (default: 200)"
    )
    parser.add_argument(
        "--control",
        choices=("none", "planted", "null"),
        default="none",
        help="planted: sets contain the audited images of their half; null: sets are made without "
        "audited images (default: none)",
    )
    parser.add_argument("--network", type=TEXT, help="network (default: the method's)")
    parser.add_argument("--iterations", type=COUNT, help="iterations of distilling")
    parser.add_argument(
        "--epoch-eval-train", type=COUNT, help="number of training epochs (default: the method's)"
    )
    add_seed(parser)
    parser.add_argument("--out", type=PLACE, help="folder of the table and the picture")
    add_workers(parser, "sets")
    parser.set_defaults(run=_membership)


def _membership(options: Namespace) -> None:
    check_results(options.out)
    accelerator = make_accelerator()
    settings = {name: getattr(options, name) for name in ("network", "iterations")}
    audit = membership_of(
        options.method,
        load_chosen_data(options, accelerator),
        ipc=options.ipc,
        shadows=options.shadows,
        images=options.images,
        control=options.control,
        epoch_eval_train=options.epoch_eval_train,
        seed=options.seed,
        workers=options.workers,
        accelerator=accelerator,
        **{name: value for name, value in settings.items() if value is not None},
    )
    files = "membership.csv and membership.png"
    save_and_print(audit, files, accelerator, options.out, f"membership-{options.method}")

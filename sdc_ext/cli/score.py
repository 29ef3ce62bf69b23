"""``sdc-ext score``: how much of a set's accuracy comes from its images.

The rest comes from its soft labels, or from chance.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from sdc_ext.cli.options import COUNT, PLACE, TEXT, add_seed, add_workers
from sdc_ext.cli.sets import SET_HELP, add_set_data, open_named_with_data
from sdc_ext.verbs.opening import OpenedSet
from sdc_ext.verbs.scoring import score_set
from sdc_ext.verbs.session import check_free_file, make_accelerator, make_console


def add_options(parser: ArgumentParser) -> None:
    """Adds the options of the command to its parser."""
    parser.add_argument("set", type=PLACE, metavar="SET", help=SET_HELP)
    add_set_data(parser)
    parser.add_argument("--network", type=TEXT, help="network to train (default: the set's own)")
    parser.add_argument(
        "--num-eval", type=COUNT, default=5, help="number of networks per score (default: 5)"
    )
    parser.add_argument(
        "--full-epochs",
        type=COUNT,
        default=20,
        help="number of epochs on all real images (default: 20)",
    )
    add_seed(parser)
    add_workers(parser, "networks")
    parser.add_argument("--out", type=PLACE, help=".json file for the scores")
    parser.set_defaults(run=_score)


def _score(options: Namespace) -> None:
    check_free_file(options.out)
    accelerator = make_accelerator()
    scored = score_set(
        OpenedSet(str(options.set), *open_named_with_data(options.set, options, accelerator)),
        network=options.network,
        num_eval=options.num_eval,
        workers=options.workers,
        full_epochs=options.full_epochs,
        seed=options.seed,
        accelerator=accelerator,
    )
    make_console(accelerator).print(scored)
    if options.out is not None and accelerator.is_main_process:
        scored.save(options.out)

"""``sdc-ext evaluate``: distilled sets on several networks, beside all real images."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from sdc_ext.cli.folders import claim_folder
from sdc_ext.cli.options import (
    COUNT,
    NAMES,
    PLACE,
    add_computing,
    add_seed,
    add_settings,
    add_workers,
    chosen_settings,
)
from sdc_ext.cli.sets import SET_HELP, add_set_data, open_named_sets
from sdc_ext.evaluation.configurations import Training
from sdc_ext.evaluation.jobs import evaluation_jobs
from sdc_ext.verbs.evaluation import run_jobs
from sdc_ext.verbs.session import check_free, make_accelerator, make_console
from sdc_ext.workers import choose_workers


def add_options(parser: ArgumentParser) -> None:
    """Adds the options of the command to its parser."""
    parser.add_argument("sets", type=PLACE, nargs="+", metavar="SET", help=SET_HELP)
    add_set_data(parser)
    parser.add_argument(
        "--networks",
        type=NAMES,
        help="comma-separated networks, ours or timm's (default: the set's own)",
    )
    parser.add_argument(
        "--num-eval", type=COUNT, default=5, help="number of each network (default: 5)"
    )
    parser.add_argument(
        "--epoch-eval-train", type=COUNT, help="number of epochs (default: the set's own)"
    )
    add_settings(parser.add_argument_group("the training"), Training)
    add_seed(parser)
    add_computing(parser, "the training")
    add_workers(parser, "networks")
    parser.add_argument(
        "--stack",
        type=COUNT,
        default=1,
        help="number of networks that are trained at once as one stack, for GPUs (default: 1)",
    )
    parser.add_argument(
        "--real-epochs", type=COUNT, help="also train on all real images, for this number of epochs"
    )
    parser.add_argument("--out", type=PLACE, help="folder of the table and the chart")
    parser.set_defaults(run=_evaluate)


def _evaluate(options: Namespace) -> None:
    check_free(options.out)
    accelerator = make_accelerator(options.mixed_precision)
    workers = choose_workers(options.workers, launched=accelerator.num_processes)
    console = make_console(accelerator)
    training = Training(**chosen_settings(options))
    jobs = evaluation_jobs(
        open_named_sets(options, accelerator),
        networks=options.networks,
        epoch_eval_train=options.epoch_eval_train,
        lr_eval=options.lr,
        real_epochs=options.real_epochs,
        training=training,
    )
    out = None
    if accelerator.is_main_process:
        out = claim_folder(options.out, "evaluation", options.sets)
    evaluated = run_jobs(
        jobs,
        training=training,
        num_eval=options.num_eval,
        seed=options.seed,
        out=out,
        compile=options.compile,
        workers=workers,
        stack=options.stack,
        accelerator=accelerator,
        console=console,
    )
    console.print(evaluated)
    further = ", configurations.csv" if evaluated.spreads else ""
    console.print(f"accuracies.csv{further}, accuracies.json and accuracies.png in {out}")

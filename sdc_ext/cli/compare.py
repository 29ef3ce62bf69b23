"""``sdc-ext compare``: paired runs of several arms."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from sdc_ext._values import CountOrZero, kind_of
from sdc_ext.adapters import get_method, resolve
from sdc_ext.cli.data import load_chosen_data
from sdc_ext.cli.distillation import add_distillation
from sdc_ext.cli.options import COUNT, PLACE, TEXT, WEIGHT, add_workers, chosen_settings
from sdc_ext.errors import InputError
from sdc_ext.evaluation.comparison import GAIN
from sdc_ext.strength import STRENGTHS
from sdc_ext.verbs.arms import check_arms, written_arm
from sdc_ext.verbs.comparison import Points, compare
from sdc_ext.verbs.plans import compare_plan
from sdc_ext.verbs.session import check_start, make_accelerator, make_console


def add_options(parser: ArgumentParser) -> None:
    """Adds the options of the command to its parser."""
    first = add_distillation(parser, without=STRENGTHS)
    _add_arms(first)
    first.add_argument(
        "--seeds", type=COUNT, metavar="N", default=6, help="number of runs per arm (default: 6)"
    )
    first.add_argument(
        "--first-seed",
        type=kind_of(CountOrZero),
        metavar="N",
        default=0,
        help="seed of the first run; fresh seeds confirm what other ones suggested (default: 0)",
    )
    first.add_argument(
        "--margin",
        type=kind_of(Points),
        metavar="POINTS",
        default=100 * GAIN,
        help=f"smallest difference in accuracy that matters (default: {100 * GAIN:g} points)",
    )
    first.add_argument(
        "--plan",
        type=PLACE,
        metavar="FILE",
        help="instead of METHOD and all other options but --out, --processes, --executor and "
        "--mixed-precision: a plan in YAML that compares the same arms with several methods, ipc "
        "or data sets",
    )
    first.add_argument(
        "--out", type=PLACE, metavar="FOLDER", help="folder of the runs; finished ones are kept"
    )
    add_workers(parser, "runs")
    parser.set_defaults(run=lambda options: _run(options, parser))


def _add_arms(group: Any) -> None:
    """Adds the options that say what is compared."""
    weights = {
        "lam": "weights, of which the others are compared to the first (default: 0 0.002)",
        "share": "instead of --lam: shares of the image gradient, e.g. 0 0.1 0.3",
    }
    for name, text in weights.items():
        group.add_argument(
            f"--{name}", dest=f"{name}s", type=WEIGHT, nargs="+", metavar="X", help=text
        )
    group.add_argument(
        "--arm",
        dest="arms",
        type=TEXT,
        action="append",
        metavar="SETTINGS",
        help="instead of --lam: one arm, as in --arm lam=0 --arm 'lam=0.002 norm=l2_squared'; the "
        "others are compared to the first",
    )


def _run(options: Namespace, parser: ArgumentParser) -> None:
    if options.plan is None:
        _compare(options)
        return
    for name, value in vars(options).items():
        is_own = name in ("plan", "out", "mixed_precision", "workers", "run")
        if not is_own and value != parser.get_default(name):
            given = "METHOD" if name == "method" else f"`{name.removeprefix('set_')}`"
            raise InputError(f"{given} has no effect with `plan`: put it into the plan")
    accelerator = make_accelerator(options.mixed_precision)
    out = options.out or Path("runs") / f"plan-{options.plan.stem}"
    compared = compare_plan(options.plan, out=out, workers=options.workers, accelerator=accelerator)
    console = make_console(accelerator)
    console.print(compared)
    console.print(f"plan.json, plan.csv and forest.png in {compared.out}")


def _compare(options: Namespace) -> None:
    method = get_method(options.method)
    settings = chosen_settings(options)
    arms = None if options.arms is None else [written_arm(text, method) for text in options.arms]
    # All of this fails before the data are loaded.
    for arm in check_arms(options.seeds, lams=options.lams, shares=options.shares, arms=arms):
        resolve(method, options.data, options.ipc, settings | arm.values)
    check_start(method, options.out, options.experts)
    accelerator = make_accelerator(options.mixed_precision)
    compared = compare(
        method.name,
        load_chosen_data(options, accelerator),
        lams=options.lams,
        shares=options.shares,
        arms=arms,
        seeds=options.seeds,
        first_seed=options.first_seed,
        ipc=options.ipc,
        margin=options.margin,
        out=options.out,
        experts=options.experts,
        compile=options.compile,
        workers=options.workers,
        accelerator=accelerator,
        **settings,
    )
    console = make_console(accelerator)
    if accelerator.is_main_process:  # it alone has the histories
        console.print(compared)
    console.print(f"cells.csv, comparison.json, comparison.png and tracking.png in {compared.out}")

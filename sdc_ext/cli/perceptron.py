"""``sdc-ext theory perceptron``: when easy samples are better, and when hard ones are."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from rich.console import Console

from sdc_ext._console import PlainConsole, make_progress
from sdc_ext._files import Writer, as_table, write_files
from sdc_ext._kinds import Number, Whole
from sdc_ext.cli.folders import check_results, claim_folder
from sdc_ext.cli.options import PLACE, add_seed, add_workers
from sdc_ext.errors import InputError
from sdc_ext.theory.perceptron_map import Grid, draw_map, solve_map
from sdc_ext.theory.perceptron_simulation import Simulator
from sdc_ext.theory.perceptron_study import Setting, draw_study, study
from sdc_ext.theory.tables import boundary_table, crossover_table
from sdc_ext.workers import choose_workers

_Rows: TypeAlias = Sequence[Mapping[str, Any]]


def add_perceptron(commands: Any) -> None:
    """Adds the command ``perceptron``."""
    purpose = "compute the test error of perceptrons on easy, hard and all samples"
    parser = commands.add_parser("perceptron", help=purpose, description=purpose)
    parser.add_argument(
        "--gamma",
        type=Number(0, 90, "[)"),
        nargs="+",
        default=[0.0, 10.0, 20.0],
        metavar="DEGREES",
        help="angles between probe and teacher (default: 0 10 20)",
    )
    parser.add_argument(
        "--f",
        type=Number(0, 1, "()"),
        nargs="+",
        help="kept shares (default: .2 .5 .8; for the map, .1 to .9)",
    )
    parser.add_argument(
        "--trials",
        type=_Trials(0, 10**6),
        default=10,
        help="simulated students per point, at least 2, or 0 for none (default: 10)",
    )
    parser.add_argument(
        "--dimensions",
        type=Whole(2, 100_000),
        default=200,
        help="their dimensions (default: 200, as in the paper)",
    )
    add_seed(parser)
    parser.add_argument(
        "--map",
        action="store_true",
        help="instead of curves, a map: where easy samples beat hard ones, over the samples per "
        "dimension before the selection and the kept share",
    )
    parser.add_argument("--out", type=PLACE, help="folder of the table and the picture")
    add_workers(parser, "rows of the map")
    parser.set_defaults(run=_perceptron)


class _Trials(Whole):
    """Numbers of simulations: none, or enough for a standard error."""

    def __str__(self) -> str:
        return f"0 for none, or a whole number from 2 to {self.most}"

    def accept(self, value: object) -> int | None:
        return None if value == 1 else super().accept(value)


def _perceptron(options: Namespace) -> None:
    check_results(options.out)
    gammas = tuple(dict.fromkeys(options.gamma))
    simulator = None
    if options.trials:
        simulator = Simulator(options.dimensions, options.trials, options.seed)
    if options.map:
        _draw_map(options, gammas, simulator)
    elif options.workers != 1:
        raise InputError("`processes` and `executor` have an effect on a map only: add --map")
    else:
        _draw_curves(options, gammas, simulator)


def _draw_curves(
    options: Namespace, gammas: tuple[float, ...], simulator: Simulator | None
) -> None:
    shares = tuple(dict.fromkeys(options.f or Setting.shares))
    setting = Setting(gammas, shares)
    console = PlainConsole(soft_wrap=True)
    with make_progress(console) as progress:
        total = len(gammas) * (2 * len(shares) + 1)
        bar = progress.add_task("solving" + (" and simulating" if simulator else ""), total=total)
        found = study(setting, simulator, lambda: progress.advance(bar))
    console.print(crossover_table(found.crossovers(), max(setting.alphas)))
    if simulator:
        within = f"3 s.e. + 0.5 / {options.dimensions} of the theory"
        console.print(f"{found.agreeing} of {len(found.dots)} simulations are within {within}")
    _keep("perceptron", found.rows(), lambda path: draw_study(found, path), options.out, console)


def _draw_map(options: Namespace, gammas: tuple[float, ...], simulator: Simulator | None) -> None:
    shares = tuple(sorted(set(options.f or Grid.shares)))
    if len(shares) < 2:
        (share,) = shares
        raise InputError(f"a map needs two different kept shares, got {share:g}: add some to `f`")
    grid = Grid(gammas, shares)
    console = PlainConsole(soft_wrap=True)
    with make_progress(console) as progress:
        bar = progress.add_task("solving the map", total=len(gammas) * len(shares))
        found = solve_map(
            grid,
            simulator,
            workers=choose_workers(options.workers),
            on_row=lambda: progress.advance(bar),
            say=console.print,
        )
    console.print(boundary_table(found.boundary()))
    if simulator:
        within = f"3 s.e. + 1 / {options.dimensions} of the theory"
        console.print(f"{found.agreeing} of {len(found.dots)} simulated gains are within {within}")
    _keep("map", found.rows(), lambda path: draw_map(found, path), options.out, console)


def _keep(name: str, rows: _Rows, draw: Writer, out: Path | None, console: Console) -> None:
    """Writes a table and a picture, once results are shown: a folder may be refused by now."""
    folder = claim_folder(out, "perceptron")
    write_files(folder, {f"{name}.csv": as_table(rows), f"{name}.png": draw})
    console.print(f"{name}.csv and {name}.png in {folder}")

"""``sdc-ext theory perceptron``: when easy samples are better, and when hard ones are."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from sdc_ext._console import PlainConsole, make_progress
from sdc_ext._files import Writer, as_table, write_files
from sdc_ext._kinds import Number, Whole
from sdc_ext.cli.folders import claim_folder
from sdc_ext.cli.options import PLACE, add_seed
from sdc_ext.theory.perceptron_simulation import Simulator
from sdc_ext.theory.perceptron_study import Setting, draw_study, study
from sdc_ext.theory.tables import crossover_table
from sdc_ext.verbs.session import check_free


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
        default=[0.2, 0.5, 0.8],
        help="kept shares (default: .2 .5 .8)",
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
    parser.add_argument("--out", type=PLACE, help="folder of the table and the picture")
    parser.set_defaults(run=_perceptron)


class _Trials(Whole):
    """Numbers of simulations: none, or enough for a standard error."""

    def __str__(self) -> str:
        return f"0 for none, or a whole number from 2 to {self.most}"

    def accept(self, value: object) -> int | None:
        return None if value == 1 else super().accept(value)


def _perceptron(options: Namespace) -> None:
    check_free(options.out)
    gammas, shares = (tuple(dict.fromkeys(values)) for values in (options.gamma, options.f))
    setting = Setting(gammas, shares)
    simulator = None
    if options.trials:
        simulator = Simulator(options.dimensions, options.trials, options.seed)
    console = PlainConsole(soft_wrap=True)
    with make_progress(console) as progress:
        total = len(gammas) * (2 * len(shares) + 1)
        bar = progress.add_task("solving" + (" and simulating" if simulator else ""), total=total)
        found = study(setting, simulator, lambda: progress.advance(bar))
    out = claim_folder(options.out, "perceptron")
    files: dict[str, Writer] = {
        "perceptron.csv": as_table(found.rows()),
        "perceptron.png": lambda path: draw_study(found, path),
    }
    write_files(out, files)
    console.print(crossover_table(found.crossovers(), max(setting.alphas)))
    if simulator:
        within = f"3 s.e. + 0.5 / {options.dimensions} of the theory"
        console.print(f"{found.agreeing} of {len(found.dots)} simulations are within {within}")
    console.print(f"perceptron.csv and perceptron.png in {out}")

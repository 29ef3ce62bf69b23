"""``sdc-ext theory scaling`` and ``coverage``: fit laws to measured accuracies."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console

from sdc_ext._console import PlainConsole
from sdc_ext._files import as_text, write_files
from sdc_ext._kinds import Number
from sdc_ext.cli.options import PLACE, add_seed
from sdc_ext.errors import InputError
from sdc_ext.theory import collect, fit_coverage, fit_scaling, read_accuracies
from sdc_ext.theory.accuracies import Family, Series
from sdc_ext.theory.plots import draw_coverage, draw_scaling
from sdc_ext.theory.tables import (
    coverage_sentences,
    coverage_table,
    floor_sentence,
    form_table,
    scaling_table,
)
from sdc_ext.verbs.session import check_free

_Measured = TypeVar("_Measured")
_Law = TypeVar("_Law")


def add_scaling(commands: Any) -> None:
    """Adds the command ``scaling``."""
    purpose = "fit how the error falls with the size of the set"
    parser = commands.add_parser("scaling", help=purpose, description=purpose)
    _add_common(parser)
    parser.set_defaults(run=_scaling)


def add_coverage(commands: Any) -> None:
    """Adds the command ``coverage``."""
    purpose = "fit how the size that is needed grows with the number of networks"
    parser = commands.add_parser("coverage", help=purpose, description=purpose)
    _add_common(parser)
    parser.add_argument(
        "--target",
        type=Number(0, 1, "()"),
        help="gap or error to reach, as a fraction (default: one that all reach)",
    )
    parser.set_defaults(run=_coverage)


def _add_common(parser: ArgumentParser) -> None:
    parser.add_argument(
        "tables",
        type=PLACE,
        nargs="+",
        metavar="CSV",
        help="accuracies.csv of sdc-ext evaluate or cells.csv of sdc-ext compare",
    )
    add_seed(parser)
    parser.add_argument("--out", type=PLACE, help="folder for the laws (.json) and a chart (.png)")


def _scaling(options: Namespace) -> None:
    series, console = _open(options)
    laws = _each(series, lambda s: fit_scaling(s, options.seed), console)
    for law in laws:
        console.print(scaling_table(law))
        console.print(floor_sentence(law))
    _keep(
        options.out,
        "scaling",
        [law.summary() for law in laws],
        lambda path: draw_scaling(laws, path),
        console,
    )


def _coverage(options: Namespace) -> None:
    series, console = _open(options)
    families: dict[Family, list[Series]] = defaultdict(list)
    for s in series:
        families[s.family].append(s)
    laws = _each(
        families.values(), lambda f: fit_coverage(f, options.target, options.seed), console
    )
    for law in laws:
        console.print(coverage_table(law))
        console.print(form_table(law))
    for sentence in coverage_sentences(laws):
        console.print(sentence)
    _keep(
        options.out,
        "coverage",
        [law.summary() for law in laws],
        lambda path: draw_coverage(laws, path),
        console,
    )


def _open(options: Namespace) -> tuple[list[Series], Console]:
    check_free(options.out)
    series = collect(read_accuracies(options.tables))
    return series, PlainConsole(soft_wrap=True)


def _each(
    measured: Iterable[_Measured], fit: Callable[[_Measured], _Law], console: Console
) -> list[_Law]:
    """Fits all laws that can be fitted, and prints why the others cannot.

    Raises:
        InputError: If none can be fitted.
    """
    laws, problems = [], []
    for one in measured:
        try:
            laws.append(fit(one))
        except InputError as error:
            problems.append(error)
    if not laws:
        raise problems[0]
    for problem in problems:
        console.print(f"left out: {problem}")
    return laws


def _keep(
    out: Path | None,
    name: str,
    laws: Sequence[dict[str, Any]],
    draw: Callable[[Path], None],
    console: Console,
) -> None:
    if out is None:
        return
    text = json.dumps(laws, indent=1, allow_nan=False)
    write_files(out, {f"{name}.json": as_text(text), f"{name}.png": draw})
    console.print(f"{name}.json and {name}.png in {out}")

"""``sdc-ext theory scaling`` and ``coverage``: fit laws to measured accuracies."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from rich.console import Console

from sdc_ext._console import PlainConsole
from sdc_ext._files import Writer, as_text, write_files
from sdc_ext._values import kind_of
from sdc_ext.cli.options import PLACE, add_seed
from sdc_ext.errors import InputError
from sdc_ext.theory import (
    Coverage,
    Scaling,
    SideBySide,
    collect,
    compare_coverage,
    fit_coverage,
    fit_scaling,
    read_accuracies,
)
from sdc_ext.theory.accuracies import Family, Series
from sdc_ext.theory.plots import draw_coverage, draw_scaling, draw_side_by_side
from sdc_ext.theory.required import Target
from sdc_ext.theory.tables import (
    coverage_sentences,
    coverage_table,
    floor_sentence,
    form_table,
    scaling_table,
    side_by_side_tables,
)
from sdc_ext.verbs.session import check_free

_Measured = TypeVar("_Measured")
_Kept: TypeAlias = tuple[Sequence[Scaling | Coverage | SideBySide], Callable[[Path], None]]
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
        type=kind_of(Target),
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
    _keep(options.out, {"scaling": (laws, lambda path: draw_scaling(laws, path))}, console)


def _coverage(options: Namespace) -> None:
    series, console = _open(options)
    families: dict[Family, list[Series]] = defaultdict(list)
    for s in series:
        families[s.family].append(s)
    several = len(families) > len({replace(family, network="") for family in families})
    laws = _each(
        families.values(),
        lambda f: fit_coverage(f, options.target, options.seed),
        console,
        or_none=several,  # a comparison needs fewer sizes than a law
    )
    for law in laws:
        console.print(coverage_table(law))
        console.print(form_table(law))
    for sentence in coverage_sentences(laws):
        console.print(sentence)
    both = _side_by_side(families, options, console)
    if not (laws or both):
        raise InputError(
            "no family has enough sets for a law, and no two have enough for a comparison: "
            "evaluate more sets, on more networks"
        )
    _keep(
        options.out,
        {
            "coverage": (laws, lambda path: draw_coverage(laws, path)),
            "side-by-side": (both, lambda path: draw_side_by_side(both, path)),
        },
        console,
    )


def _side_by_side(
    families: Mapping[Family, Sequence[Series]], options: Namespace, console: Console
) -> list[SideBySide]:
    """Compares families that differ in what they were distilled with, each with the first."""
    alike: dict[Family, list[Family]] = defaultdict(list)
    for family in families:
        alike[replace(family, network="")].append(family)
    found = []
    for first, *others in alike.values():
        for other in others:
            try:
                result = compare_coverage(
                    families[first], families[other], options.target, options.seed
                )
            except InputError as error:
                console.print(f"not compared: {error}")
                continue
            found.append(result)
            for table in side_by_side_tables(result):
                console.print(table)
    return found


def _open(options: Namespace) -> tuple[list[Series], Console]:
    check_free(options.out)
    series = collect(read_accuracies(options.tables))
    return series, PlainConsole(soft_wrap=True)


def _each(
    measured: Iterable[_Measured],
    fit: Callable[[_Measured], _Law],
    console: Console,
    *,
    or_none: bool = False,
) -> list[_Law]:
    """Fits all laws that can be fitted, and prints why the others cannot.

    Raises:
        InputError: If none can be fitted, unless ``or_none``.
    """
    laws, problems = [], []
    for one in measured:
        try:
            laws.append(fit(one))
        except InputError as error:
            problems.append(error)
    if not (laws or or_none):
        raise problems[0]
    for problem in problems:
        console.print(f"left out: {problem}")
    return laws


def _keep(out: Path | None, kept: Mapping[str, _Kept], console: Console) -> None:
    """Writes results as tables and charts, by the name of their files, unless there are none."""
    if out is None:
        return
    files: dict[str, Writer] = {}
    for name, (results, draw) in kept.items():
        if results:
            summaries = [result.summary() for result in results]
            files[f"{name}.json"] = as_text(json.dumps(summaries, indent=1, allow_nan=False))
            files[f"{name}.png"] = draw
    write_files(out, files)
    console.print(f"{' and '.join(files)} in {out}")

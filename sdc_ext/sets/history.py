"""Reads the values that a run logged at every iteration."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from sdc_ext._files import settle
from sdc_ext._kinds import Kind, Number, Whole
from sdc_ext._reading import opened
from sdc_ext.errors import InputError

HISTORY = "history.csv"

MEASURED = {
    "real": "matched real images",
    "drawn": "random real images",
    "syn": "single synthetic images",
}
"""The images whose ``NAME_gradn`` and ``NAME_loss`` a run measures now and then."""

_COLUMNS = {"iteration", "loss", "matching", "difficulty"}

_ANY = Number(-math.inf, math.inf)

_FROM_ZERO = Number(0, math.inf)

# The columns that are shown as what they mean; loops may log any others. Rounding can take a cosine
# of parallel gradients past 1.
_ALLOWED: dict[str, Kind] = {
    "iteration": Whole(),
    "difficulty": _FROM_ZERO,
    "lam": _FROM_ZERO,
    "share": _FROM_ZERO,
    "cosine": Number(-1 - 1e-9, 1 + 1e-9),
    "skipped": Whole(0, 1),
    "easy_share": Number(0, 1),
    **{f"{kind}_{of}": _FROM_ZERO for kind in MEASURED for of in ("gradn", "loss")},
}

_ADVICE = "run the command again, or delete the file"


def read_history(folder: Path) -> dict[str, list[float]]:
    """Returns the columns of a run folder's ``history.csv``; none if there is no such file.

    Values are NaN where an update was skipped, and where nothing was measured yet.

    Raises:
        InputError: If the file is no table of numbers, or a number is impossible, e.g. a cosine
            of 7.
    """
    settle(folder)
    path = folder / HISTORY
    if not os.path.lexists(path):
        return {}
    try:
        with opened(path, newline="", encoding="utf-8") as file:
            names, rows = _table(csv.reader(file, strict=True))
    except InputError:
        raise
    except (ValueError, csv.Error) as error:  # a text that is not UTF-8 is a ValueError, too
        raise InputError(f"{path} is damaged ({error}): {_ADVICE}") from None
    return {
        name: [
            _number(row[column], name, f"line {line} of {path}")
            for line, row in enumerate(rows, start=2)
        ]
        for column, name in enumerate(names)
    }


def _table(lines: Iterable[list[str]]) -> tuple[list[str], Sequence[list[str]]]:
    """Returns the names of the columns, which are none if a run ended at once, and the rows.

    Raises:
        ValueError: If there is no such table.
    """
    found = list(lines)
    if not found:
        raise ValueError("it is empty")
    names, *rows = found
    if names and not set(names) >= _COLUMNS:
        raise ValueError(f"it lacks {', '.join(sorted(_COLUMNS - set(names)))}")
    if len(set(names)) < len(names):
        raise ValueError("it has two columns of the same name")
    if names and not rows:
        raise ValueError("it has no rows")
    for line, row in enumerate(rows, start=2):
        if len(row) != len(names):
            raise ValueError(f"line {line} has {len(row)} values for {len(names)} columns")
    return names, rows


def _number(text: str, name: str, where: str) -> float:
    kind = _ALLOWED.get(name, _ANY)
    try:
        value = float(text)
    except ValueError:
        raise InputError(f"{kind.refuse(f'{name} in {where}', text)}: {_ADVICE}") from None
    if math.isnan(value) and name != "iteration":
        return value
    if kind.accept(int(value) if value.is_integer() else value) is None:
        raise InputError(f"{kind.refuse(f'{name} in {where}', value)}: {_ADVICE}")
    return value

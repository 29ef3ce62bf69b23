"""Reads the values that a run logged at every iteration."""

from __future__ import annotations

import csv
import os
from pathlib import Path

from sdc_ext._files import settle
from sdc_ext._reading import regular_file
from sdc_ext.errors import InputError

HISTORY = "history.csv"

_COLUMNS = {"iteration", "loss", "matching", "difficulty"}


def read_history(folder: Path) -> dict[str, list[float]]:
    """Returns the columns of a run folder's ``history.csv``; none if there is no such file.

    Raises:
        InputError: If the file is no table of numbers.
    """
    settle(folder)
    path = folder / HISTORY
    if not os.path.lexists(path):
        return {}
    try:
        with regular_file(path).open(newline="", encoding="utf-8") as file:
            names, *rows = csv.reader(file, strict=True)
        if names and not set(names) >= _COLUMNS:
            raise ValueError(f"it lacks {', '.join(sorted(_COLUMNS - set(names)))}")
        columns = [[float(text) for text in column] for column in zip(*rows, strict=True)]
        return dict(zip(names, columns or [[]] * len(names), strict=True))
    except InputError:
        raise
    except (ValueError, csv.Error) as error:  # a text that is not UTF-8 is a ValueError, too
        raise InputError(
            f"{path} is damaged ({error}): run the command again, or delete the file"
        ) from None

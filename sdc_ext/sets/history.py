"""Reads the values that a run logged at every iteration."""

from __future__ import annotations

import csv
import os
from pathlib import Path

from sdc_ext._files import settle
from sdc_ext._reading import regular_file

HISTORY = "history.csv"


def read_history(folder: Path) -> dict[str, list[float]]:
    """Returns the columns of a run folder's ``history.csv``; none if there is no such file."""
    settle(folder)
    path = folder / HISTORY
    if not os.path.lexists(path):
        return {}
    with regular_file(path).open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) for row in rows] for name in (rows[0] if rows else ())}

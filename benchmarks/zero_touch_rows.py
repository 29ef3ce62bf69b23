"""The table of ``zero_touch.py``: as a CSV file, in a page, and on the terminal."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path

from rich.console import Console
from rich.table import Table

BEGIN, END = "<!-- rows: begin -->\n", "<!-- rows: end -->\n"
HEADINGS = (
    "repository",
    "script",
    "recognised as",
    "repairs",
    "check",
    "starts",
    "lam 0",
    "difference",
    "effect",
    "precision",
    "s a step",
    "ratio",
    "remark",
)


@dataclass
class Row:
    """What was found about a script; a field is empty where it could not be found.

    Attributes:
        repository: The owner and the name.
        commit: The commit of the checkout.
        script: The script in it.
        profile: The kind of loop that is recognised.
        repairs: The repairs that are installed.
        clear: Whether nothing stands in the way, by ``--check``.
        starts: Whether the script reaches its image steps with the tool alone.
        identical: Whether lam 0 leaves what is learnt as it is, bit for bit.
        difference: The distance of the tool's term from that of the hand patch, over its size.
        effect: The size of the term's image gradient at lam 1, over that of the script's own.
        precision: The precision of the two.
        seconds: The seconds of CPU time of an image step.
        ratio: The seconds with the correction, over those without.
        remark: What could not be done, and why.
    """

    repository: str
    commit: str
    script: str
    profile: str = ""
    repairs: str = ""
    clear: str = ""
    starts: str = ""
    identical: str = ""
    difference: str = ""
    effect: str = ""
    precision: str = ""
    seconds: str = ""
    ratio: str = ""
    remark: str = ""

    @property
    def cells(self) -> list[str]:
        """The cells of the row in a page."""
        name = f"[{self.repository}](https://github.com/{self.repository}) at {self.commit}"
        middle = (f"`{self.script}`", *astuple(self)[3:-1])
        return [name, *middle, self.remark.replace("|", "\\|")]


def read_rows(path: Path) -> list[Row]:
    """Returns the rows of a CSV file; none if there is no such file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [Row(**found) for found in csv.DictReader(file)]


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Writes a CSV file."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [f.name for f in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


def merged(before: Sequence[Row], new: Row, order: Sequence[tuple[str, str]]) -> list[Row]:
    """Returns rows with another in its place.

    Args:
        before: The rows.
        new: The other row.
        order: The repositories and scripts of all rows, in their order.
    """
    by_case = {(row.repository, row.script): row for row in [*before, new]}
    return [by_case[case] for case in order if case in by_case]


def write_page(path: Path, rows: Sequence[Row]) -> None:
    """Puts the rows between the marks of a page."""
    lines = [HEADINGS, ["---"] * len(HEADINGS), *(row.cells for row in rows)]
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    before, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    path.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")


def print_rows(rows: Sequence[Row]) -> None:
    """Prints one line per script."""
    table = Table()
    for name in (f.name for f in fields(Row)):
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*astuple(row))
    Console(width=240).print(table)

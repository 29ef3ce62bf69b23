"""The accuracies that were published: the paper's, and those of the methods' own authors."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True)
class Accuracy:
    """A published test accuracy.

    Attributes:
        mean: The mean in percent.
        std: The standard deviation in percentage points; None where none was published.
    """

    mean: float
    std: float | None = None

    @classmethod
    def of(cls, row: Mapping[str, str], name: str) -> Accuracy | None:
        """Reads a column of a row, and that of its deviation; None if the column is empty."""
        mean, std = row[name], row[f"{name}_std"]
        return cls(float(mean), float(std) if std else None) if mean else None

    def __str__(self) -> str:
        return f"{self.mean:g}" + ("" if self.std is None else f" ± {self.std:g}")


@dataclass(frozen=True)
class Published:
    """A cell of the SDC paper's Tables 1 to 3.

    Attributes:
        table: ``"table1"``, ``"table2"`` or ``"table3"``.
        method: The name of the method.
        dataset: The name of the data set.
        ipc: The number of images per class.
        network: The network that was trained on the set, where it is not the one it was distilled
            with; otherwise empty.
        plain: The paper's accuracy of the method without the correction.
        corrected: The paper's accuracy with it.
        original: The accuracy that the authors of the method published, if they did.
    """

    table: str
    method: str
    dataset: str
    ipc: int
    network: str
    plain: Accuracy
    corrected: Accuracy
    original: Accuracy | None


@cache
def published_cells() -> tuple[Published, ...]:
    """Returns all cells of the paper's Tables 1 to 3.

    References: SDC paper, Tables 1 to 3; the first table of results in DC (ICLR 2021), DSA (ICML
    2021), MTT (CVPR 2022), FTD (CVPR 2023), TESLA (ICML 2023) and DATM (ICLR 2024).
    """
    text = (files("sdc_ext.reproduction") / "published.csv").read_text(encoding="utf-8")
    return tuple(_cell(row) for row in csv.DictReader(text.splitlines()))


def _cell(row: Mapping[str, str]) -> Published:
    plain, corrected = Accuracy.of(row, "plain"), Accuracy.of(row, "corrected")
    if plain is None or corrected is None:
        raise ValueError(f"published.csv lacks an accuracy of the paper: {dict(row)}")
    return Published(
        table=row["table"],
        method=row["method"],
        dataset=row["dataset"],
        ipc=int(row["ipc"]),
        network=row["network"],
        plain=plain,
        corrected=corrected,
        original=Accuracy.of(row, "original"),
    )


def originals_above() -> tuple[int, int]:
    """Counts the cells in which the authors' plain method is above the paper's corrected one.

    Returns:
        Their number, and the number of cells in which the authors published an accuracy.
    """
    known = [
        (cell.original, cell.corrected) for cell in published_cells() if cell.original is not None
    ]
    return sum(original.mean > corrected.mean for original, corrected in known), len(known)

"""The published accuracies, and the paper's claims about them."""

from __future__ import annotations

import re

import pytest

from sdc_ext.reproduction import ITEMS, Accuracy, Cell, originals_above, published_cells
from sdc_ext.reproduction.items import PAPER_DATA


def test_all_cells_of_the_tables_are_there() -> None:
    tables = [cell.table for cell in published_cells()]
    assert [tables.count(name) for name in ("table1", "table2", "table3")] == [27, 32, 30]
    found = {(c.table, c.method, c.dataset, c.ipc, c.network): c for c in published_cells()}
    assert len(found) == 89
    dsa = found["table1", "dsa", "svhn", 1, ""]
    assert (dsa.plain, dsa.corrected) == (Accuracy(29.4, 1.0), Accuracy(30.6, 1.0))
    assert dsa.original == Accuracy(27.5, 1.4) and str(dsa.original) == "27.5 ± 1.4"
    alexnet = found["table3", "datm", "cifar10", 1, "alexnet"]
    assert (str(alexnet.plain), str(alexnet.corrected)) == ("19.38", "23.99")
    assert alexnet.original is None
    assert ("table2", "tesla", "tinyimagenet", 1, "") not in found


def test_the_authors_numbers_are_often_above_the_corrected_ones() -> None:
    assert originals_above() == (23, 50)


@pytest.mark.parametrize("name", ["table1", "table2", "table3"])
def test_a_claim_counts_the_gains_of_its_table(name: str) -> None:
    gains = [
        cell.corrected.mean > cell.plain.mean for cell in published_cells() if cell.table == name
    ]
    (said,) = re.findall(r"in (all \d+|\d+ of \d+) cells", ITEMS[name].claim)
    expected = f"{sum(gains)} of {len(gains)}" if not all(gains) else f"all {len(gains)}"
    assert said == expected


@pytest.mark.parametrize(
    ("cell", "lam"),
    [
        (Cell("dc", "mnist", 10), 0.0005),
        (Cell("dsac", "svhn", 50), 0.02),
        (Cell("mtt", "cifar10", 10), 0.02),
        (Cell("datm", "cifar100", 50), 0.002),  # not in Table 8
    ],
)
def test_lam_is_the_papers(cell: Cell, lam: float) -> None:
    assert cell.lam == lam


def test_items_have_a_base_and_known_data() -> None:
    for item in ITEMS.values():
        assert len(set(item.cells)) == len(item.cells) > 0
        for cell in item.cells:
            base, *others = item.arms(cell, 10)
            assert base == {"lam": 0.0} and others and cell.dataset in PAPER_DATA
    start, ramp = ITEMS["fig6"].arms(Cell("datm", "cifar100", 1), 25)[1:]
    assert start == {"lam": 0.02} and ramp == {"lam_ramp": (0.02, 0.08, 25)}

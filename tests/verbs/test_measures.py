"""Difficulty and discrepancy as a person measures them from Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sdc_ext import InputError, load_data, select_set
from sdc_ext.report.tables import closeness_table
from sdc_ext.verbs.difficulty import difficulty_of
from sdc_ext.verbs.discrepancy import Measurement, discrepancy_of

SMALL: dict[str, Any] = {"network": "convnet:depth=1:width=4", "train_epochs": 2, "progress": False}


def test_real_samples_and_sets_have_difficulties(tmp_path: Path) -> None:
    chosen = select_set("random", ipc=2, progress=False)
    options: dict[str, Any] = {"per_class": 3, "num_networks": 1, **SMALL}
    found = difficulty_of({"mine": chosen}, epochs=[2, 1], **options)
    scored = {("real test", 1), ("mine", 1), ("real test", 2), ("mine", 2)}
    assert set(found.difficulty) == scored
    rows = found.rows()
    assert len(rows) == 2 * (30 + 20)
    assert {row["label"] for row in rows} == set(range(10))
    assert "1 convnet:depth=1:width=4, on the training images of digits" in str(found)
    found.save(tmp_path / "out")
    assert (tmp_path / "out" / "difficulty.csv").is_file()
    assert (tmp_path / "out" / "difficulty.png").stat().st_size > 1000


def test_difficulty_needs_no_set() -> None:
    found = difficulty_of(data=load_data("digits"), split="train", num_networks=1, **SMALL)
    assert [*found.difficulty] == [("real train", 2)] and len(found.rows()) == 1000
    with pytest.raises(InputError, match="`per_class` must be a whole number from 1"):
        difficulty_of(per_class=0, **SMALL)
    with pytest.raises(InputError, match="unknown split 'tset': did you mean 'test'"):
        difficulty_of(split="tset", **SMALL)


def test_sets_do_not_replace_real_images() -> None:
    chosen = select_set("random", progress=False)
    with pytest.raises(InputError, match="'real test' stands for real images here: give the set"):
        difficulty_of({"real test": chosen}, **SMALL)


def test_discrepancies_print_and_are_kept(tmp_path: Path) -> None:
    chosen = select_set("random", progress=False)
    how = Measurement(["mmd-linear"], ["pixels"], draws=2)
    found = discrepancy_of(chosen, measurement=how, out=tmp_path / "out", **SMALL)
    assert [row["images"] for row in found.rows()] == ["pooled", *map(str, range(10))]
    assert "2 draws of random images" in str(found) and "<pre" in found._repr_html_()
    assert len((tmp_path / "out" / "discrepancies.csv").read_text().splitlines()) == 12
    found.draw(tmp_path / "chart.png")
    assert (tmp_path / "chart.png").stat().st_size > 1000


def test_a_class_may_be_called_pooled() -> None:
    digits = load_data("digits")
    classes = ["pooled", *map(str, range(1, 10))]
    parts = [(part.images, part.labels) for part in (digits.train, digits.test)]
    data = load_data(parts[0], test=parts[1], name="odd", classes=classes)
    how = Measurement(["mmd-linear"], ["pixels"], draws=2)
    found, usual = (
        discrepancy_of(
            {"a": select_set("random", of, progress=False)}, of, measurement=how, **SMALL
        )
        for of in (data, digits)
    )
    assert [row.is_pooled for row in found.closeness["a"]] == [True, *[False] * 10]
    ratios = [[row["ratio"] for row in one.rows()] for one in (found, usual)]
    assert ratios[0] == ratios[1]
    cells = [[*map(str, column.cells)] for column in closeness_table(found.closeness).columns]
    assert cells == [
        [*map(str, column.cells)] for column in closeness_table(usual.closeness).columns
    ]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"draws": 1}, "`draws` must be a whole number from 2"),
        ({"max_real": 0}, "`max_real` must be a whole number from 1"),
        ({"spaces": ["pixel"]}, "unknown space 'pixel': did you mean 'pixels'"),
        ({"measures": ["energi"]}, "unknown measure 'energi': did you mean 'energy'"),
    ],
)
def test_measurements_are_checked_at_once(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Measurement(**wrong)

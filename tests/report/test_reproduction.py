"""What a reproduced table says of its rows."""

from __future__ import annotations

import io
import json

from sdc_ext.evaluation import Arm, PairedDifference
from sdc_ext.report.reproduction import compared_rows, draw_reproduction, sentences
from sdc_ext.reproduction import Cell
from sdc_ext.reproduction.rows import Row


def row(*differences: float) -> Row:
    arm, here = Arm.of({"lam": 0.1}), [0.5 + d for d in differences]
    gain = PairedDifference(differences)
    return Row(Cell("dc", "mnist", 1), "", arm, None, None, "digits", here, gain)


def test_equal_differences_are_no_gains() -> None:
    rows = [row(0.01, 0.01), row(-0.02, -0.02), row(0.01, 0.012, 0.011), row(-0.01, 0.02)]
    (_, said) = sentences(rows, "all gain")
    assert "of 4 comparisons: gains 1, losses 0, neither 3, at a level of 5 %" in said
    assert compared_rows(rows)[1][-2] == "unbounded"
    first = json.loads(json.dumps(rows[0].content(), allow_nan=False))
    assert (first["gain"], first["low"], first["high"]) == (1, None, None)
    draw_reproduction(rows, io.BytesIO())

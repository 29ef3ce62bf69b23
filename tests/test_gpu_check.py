"""The script that checks a GPU: what it gives up, what it survives, and the page it writes."""

from __future__ import annotations

import operator
import os
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from helpers import PATIENCE, ROOT


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import gpu_page  # type: ignore[import-not-found]
    import gpu_parts  # type: ignore[import-not-found]

    return gpu_parts, gpu_page


def difference(value: np.ndarray, first: np.ndarray) -> str:
    return f"{np.abs(value - first).max():g}"


def test_a_part_survives_its_cases(scripts: tuple[Any, Any]) -> None:
    parts, page = scripts
    cases = [
        parts.Case("fails", operator.truediv, (1, 0)),
        parts.Case("ones", partial, (torch.full, (3,), 1.0)),
        parts.Case("dies", os._exit, (3,)),
        parts.Case("twos", partial, (torch.full, (3,), 2.0)),
    ]
    part = parts.Part("a part", cases, PATIENCE, 2, 1, "off by", difference)
    failed, ones, died, twos = parts.run_part(part)
    assert (failed, died) == (
        "failed: ZeroDivisionError: division by zero",
        "failed: its process ended",
    )
    assert len(ones.seconds) == len(twos.seconds) == 2
    lines = page.part_lines(part, [failed, ones, died, twos])
    assert [line.split(" | ")[-1] for line in lines[-4:]] == [" |", "0 |", " |", "1 |"]
    columns = {line.count(" |") for line in lines[2:]}
    assert len(columns) == 1, lines


def test_a_part_without_time_is_given_up(scripts: tuple[Any, Any]) -> None:
    parts, _ = scripts
    part = parts.Part("a part", [parts.Case("a", partial, ())] * 2, -1, 1, 0, "", difference)
    assert parts.run_part(part) == ["given up: the part's limit of -1 s"] * 2


def test_the_page_has_a_place_for_the_tables(scripts: tuple[Any, Any]) -> None:
    parts, page = scripts
    text = page.PAGE.read_text(encoding="utf-8")
    assert text.count(page.BEGIN) == text.count(page.END) == 1
    assert text.index(page.BEGIN) < text.index(page.END)
    assert all((ROOT / test).exists() for test in parts.TESTS)

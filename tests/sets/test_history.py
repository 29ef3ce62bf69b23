"""Histories of runs: what runs write is read, and what no run writes is refused."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from sdc_ext import InputError
from sdc_ext._files import as_table
from sdc_ext.cli import main
from sdc_ext.sets.history import HISTORY, read_history

NAN = math.nan
ROW = {"iteration": 0, "loss": 1.5, "matching": 1.0, "difficulty": 0.5}


def same(one: list[float], other: list[float]) -> bool:
    return str(one) == str(other)  # also of NaN


def test_what_runs_write_is_read(tmp_path: Path) -> None:
    rows = [
        {**ROW, "lam": 0.1, "share": NAN, "cosine": NAN, "skipped": 0, "own": -math.inf},
        {"iteration": 1, "loss": NAN, "matching": NAN, "difficulty": NAN, "skipped": 1},
        {**ROW, "iteration": 2, "difficulty": math.inf, "lam": 0.0, "share": 0.0},
        {**ROW, "iteration": 3, "lam": 1e-30, "share": 7.5, "cosine": 1.0000000000000002},
    ]
    as_table(rows)(tmp_path / HISTORY)
    history = read_history(tmp_path)
    names = [*ROW, "lam", "share", "cosine", "skipped", "own"]
    assert list(history) == names
    for name in names:
        assert same(history[name], [float(row.get(name, NAN)) for row in rows])


def test_a_run_that_ended_at_once_has_no_columns(tmp_path: Path) -> None:
    assert read_history(tmp_path) == {}
    as_table([])(tmp_path / HISTORY)
    assert read_history(tmp_path) == {}


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("cosine", "7", "a number from -1 to 1, got 7.0"),
        ("cosine", "-1.1", "a number from -1 to 1, got -1.1"),
        ("share", "-1", "a number from 0 to inf, got -1.0"),
        ("lam", "-0.5", "a number from 0 to inf, got -0.5"),
        ("difficulty", "-3", "a number from 0 to inf, got -3.0"),
        ("difficulty", "-inf", "a number from 0 to inf, got -inf"),
        ("iteration", "1.5", "a whole number from 0 to 1000000000, got 1.5"),
        ("iteration", "-1", "a whole number from 0 to 1000000000, got -1.0"),
        ("iteration", "nan", "a whole number from 0 to 1000000000, got nan"),
        ("skipped", "2", "a whole number from 0 to 1, got 2.0"),
        ("easy_share", "1.5", "a number from 0 to 1, got 1.5"),
        ("loss", "much", "a number from -inf to inf, got 'much'"),
        ("own", "", "a number from -inf to inf, got ''"),
    ],
)
def test_impossible_values_are_refused(name: str, value: str, allowed: str, tmp_path: Path) -> None:
    as_table([{**ROW, name: 0}, {**ROW, name: value}])(tmp_path / HISTORY)
    said = f"{name} in line 3 of {tmp_path / HISTORY} must be {allowed}: run the command again"
    with pytest.raises(InputError, match=f"^{re.escape(said)}, or delete the file$"):
        read_history(tmp_path)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "it is empty"),
        ("iteration,loss\n0,1\n", "it lacks difficulty, matching"),
        ("iteration,loss,matching,difficulty\n", "it has no rows"),
        ("iteration,loss,matching,difficulty\n0,1,1\n", "line 2 has 3 values for 4 columns"),
        ("iteration,loss,matching,difficulty,loss\n0,1,1,1,1\n", "two columns of the same name"),
        ('iteration,loss,matching,difficulty\n0,1,1,"1\n', "unexpected end of data"),
    ],
)
def test_what_is_no_table_is_refused(text: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / HISTORY).write_text(text)
    said = f"^{re.escape(str(tmp_path / HISTORY))} is damaged .*{problem}.*: run the command again"
    with pytest.raises(InputError, match=said):
        read_history(tmp_path)


def test_commands_refuse_an_impossible_history(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["select", "random", "--out", str(tmp_path / "set")]) == 0
    as_table([{**ROW, "cosine": 7}])(tmp_path / "set" / HISTORY)
    page = tmp_path / "page.html"
    for command in (["show"], ["report", "--out", str(page)]):
        assert main([*command, str(tmp_path / "set")]) == 2
        assert "must be a number from -1 to 1, got 7.0" in capsys.readouterr().err
    assert not page.exists()

"""Surrogates as a person measures them, from Python and on the command line."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from sdc_ext import InputError, load_data, select_set, surrogates_of
from sdc_ext.cli import main
from sdc_ext.cli import surrogates as cli

SMALL: dict[str, Any] = {
    **{"network": "convnet:depth=1:width=4", "train_epochs": 4, "num_eval": 1},
    **{"epoch_eval_train": 5, "max_real": 20, "inner_steps": 2, "progress": False},
}


def sets(number: int, ipc: int = 1) -> dict[str, Any]:
    return {
        f"{ipc}-{seed}": select_set("random", ipc=ipc, seed=seed, progress=False)
        for seed in range(number)
    }


def test_six_sets_are_ranked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = surrogates_of({**sets(6), **sets(2, ipc=2)}, out=tmp_path / "out", **SMALL)
    printed = str(found)
    assert "rank correlation with the error" in printed
    assert "too few sets of their own, 6 needed: ipc 2" in printed
    assert {row.group for row in found.correlations} == {"all", "ipc 1"}
    with (tmp_path / "out" / "surrogates.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8 and float(rows[0]["kernel, random"]) > 0
    with (tmp_path / "out" / "correlations.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 14
    assert (tmp_path / "out" / "surrogates.png").stat().st_size > 1000
    monkeypatch.setattr(cli, "surrogates_of", lambda *_, **__: found)
    select_set("random", out=tmp_path / "one", progress=False)
    out = tmp_path / "again"
    assert main(["surrogates", str(tmp_path / "one"), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert f"surrogates.csv, correlations.csv and surrogates.png in {out}" in said
    assert len([*out.iterdir()]) == 3


def test_fewer_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (0, 1):
        select_set("random", seed=seed, out=tmp_path / str(seed), progress=False)
    arguments = [str(tmp_path / "0"), str(tmp_path / "1"), "--out", str(tmp_path / "out")]
    for name, value in SMALL.items():
        if name != "progress":
            arguments += [f"--{name.replace('_', '-')}", str(value)]
    assert main(["surrogates", *arguments]) == 0
    said = capsys.readouterr().out
    assert "rank correlations need at least 6 sets, got 2" in said
    assert f"surrogates.csv and surrogates.png in {tmp_path / 'out'}" in said
    assert not (tmp_path / "out" / "correlations.csv").exists()


def test_sets_of_other_data_are_refused() -> None:
    other = select_set("random", load_data("digits").whitened(), progress=False)
    with pytest.raises(InputError, match="not of the same real data with the same preprocessing"):
        surrogates_of({**sets(1), "other": other}, **SMALL)
    with pytest.raises(
        InputError, match="`lr` must be a number from"
    ):  # before anything is trained
        surrogates_of(sets(1), lr=-1.0, **SMALL)

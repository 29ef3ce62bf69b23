"""Paths and messages: printed as they are written, whatever is in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from sdc_ext.cli import main


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", ["[/x]", "[bold]:smile:", "a\x1b[2Jb"])
def test_a_path_is_no_markup(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    seen = name.replace("\x1b", r"\x1b")
    assert main(["select", "random", "--out", f"{name}/y"]) == 0
    assert f"set and picture: {seen}/y\n" in capsys.readouterr().out
    assert main(["export", f"{name}/y", f"{name}/z.pt"]) == 0
    assert capsys.readouterr().out == f"{seen}/z.pt\n"
    assert main(["report", f"{name}/y", "--out", f"{name}/r.html"]) == 0
    assert capsys.readouterr().out == f"{seen}/r.html\n"
    assert main(["select", "random", "--out", f"{name}/y"]) == 2
    assert capsys.readouterr().err == f"sdc-ext: {seen}/y exists: choose another --out\n"


def test_run_announces_a_script_as_it_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    script = Path("[bold]:smile:\x1b[2J.py")
    script.write_text("print(1)\n")
    assert main(["run", "--profile", "none", "--dry-run", "--", str(script)]) == 0
    said = capsys.readouterr().err
    assert r"[bold]:smile:\x1b[2J.py: profile none" in said and "\x1b" not in said

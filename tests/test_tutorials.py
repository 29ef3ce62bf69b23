"""The tutorials of the site run as they stand."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import ROOT, run_script

# What a tutorial prints when it has come to its end.
ENDS = {
    "add_your_own_method": "lam {'value': 0.02, 'source': 'your choice'}",
    "correct_your_own_loop": "lam 0.2: ",
    "distil_and_look": "synthetic.safetensors",
    "is_it_signal": "lam 2: GraDN of the last iteration",
}


def test_every_tutorial_is_tried() -> None:
    assert {path.stem for path in (ROOT / "docs" / "tutorials").glob("*.py")} == set(ENDS)


@pytest.mark.parametrize("name", ENDS)
def test_tutorial(name: str, tmp_path: Path) -> None:
    path = ROOT / "docs" / "tutorials" / f"{name}.py"
    done = run_script(path, folder=tmp_path, MPLBACKEND="Agg", TMPDIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert ENDS[name] in done.stdout

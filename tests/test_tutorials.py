"""The tutorials of the site run as they stand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT

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
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "tutorials" / f"{name}.py"],
        cwd=tmp_path,
        env={**os.environ, "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert ENDS[name] in done.stdout

"""The tutorials of the site run, briefly and as they stand."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import ROOT, run_script

TUTORIALS = ROOT / "docs" / "tutorials"

# What a tutorial prints when it has come to its end.
ENDS = {
    "add_your_own_method": "lam {'value': 0.02, 'source': 'your choice'}",
    "correct_your_own_loop": "lam 0.2: ",
    "distil_and_look": "synthetic.safetensors",
    "is_it_signal": "lam 2: GraDN of the last iteration",
}

# What makes it brief.
BRIEF = {
    "add_your_own_method": {
        '"epoch_eval_train": 60': '"epoch_eval_train": 2',
        "iterations=10": "iterations=2",
        "iterations=8": "iterations=2",
        "seeds=3": "seeds=2",
    },
    "correct_your_own_loop": {"iterations=60": "iterations=3", "epochs=200": "epochs=2"},
    "distil_and_look": {
        '"epoch_eval_train": 100': '"epoch_eval_train": 2',
        "iterations=8": "iterations=4",
    },
    "is_it_signal": {
        "epoch_eval_train=60": "epoch_eval_train=2",
        "iterations=15": "iterations=2",
        "seeds=4": "seeds=2",
    },
}


def test_every_tutorial_is_tried() -> None:
    assert {path.stem for path in TUTORIALS.glob("*.py")} == set(ENDS) == set(BRIEF)


@pytest.mark.parametrize("name", ENDS)
def test_a_brief_tutorial(name: str, tmp_path: Path) -> None:
    code = (TUTORIALS / f"{name}.py").read_text(encoding="utf-8")
    for usual, brief in BRIEF[name].items():
        assert code.count(usual) == 1, usual
        code = code.replace(usual, brief)
    path = tmp_path / f"{name}.py"
    path.write_text(code, encoding="utf-8")
    _run(path, name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ENDS)
def test_tutorial(name: str, tmp_path: Path) -> None:
    _run(TUTORIALS / f"{name}.py", name, tmp_path)


def _run(path: Path, name: str, folder: Path) -> None:
    done = run_script(path, folder=folder, MPLBACKEND="Agg", TMPDIR=str(folder))
    assert done.returncode == 0, done.stderr
    assert ENDS[name] in done.stdout

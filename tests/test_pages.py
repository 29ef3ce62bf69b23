"""What the pages say can be done: their links lead somewhere, their Python runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT
from readme_example import example

README = ROOT / "README.md"
PAGES = sorted(path for path in (ROOT / "docs").rglob("*.md") if "```python" in path.read_text())


def python(code: str, folder: Path) -> None:
    """Runs code as a reader would, in an empty folder."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"])
def test_links_of_the_root_lead_to_files(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (ROOT / target).exists(), target


def test_the_readme_is_a_page() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 120


def test_the_readmes_example_runs(tmp_path: Path) -> None:
    quick = example(README).replace('"num_eval": 2}', '"num_eval": 1, "epoch_eval_train": 5}')
    assert quick != example(README)
    python(quick, tmp_path)
    assert (tmp_path / "digits.png").stat().st_size > 1000


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT / "docs")))
def test_the_python_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    """A page's blocks build on one another; those that fetch something from a hub are left out."""
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    python("\n".join(block for block in blocks if "load_dataset(" not in block), tmp_path)

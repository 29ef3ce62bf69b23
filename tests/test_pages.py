"""What the pages say can be done: links lead somewhere, Python runs, and lines fit."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from helpers import ROOT, fork
from PIL import Image
from readme_example import example

README = ROOT / "README.md"
# Pages to work along with; those on concepts and the home page show fragments.
DOCS = ROOT / "docs"
PAGES = [
    DOCS / "quickstart.md",
    DOCS / "python.md",
    *(DOCS / "guides").glob("*.md"),
    *(DOCS / "ways").glob("*.md"),
]


# All pages but that on the command line, which is generated.
WRITTEN = [
    *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY", "CHANGELOG")),
    *(page for page in DOCS.rglob("*.md") if page.name != "cli.md"),
]


def prose(text: str) -> list[str]:
    """The lines of a page outside of code, tables and headings."""
    text = re.sub(r"^( *)(```|~~~).*?^\1\2$", "", text, flags=re.DOTALL | re.MULTILINE)
    return [line for line in text.splitlines() if not line.lstrip().startswith(("|", "#"))]


def python(code: str, folder: Path) -> None:
    """Runs code as a reader would, in an empty folder."""
    (done,) = fork((), folder=folder, code=code, environments={**os.environ, "MPLBACKEND": "Agg"})
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"])
def test_links_of_the_root_lead_to_files(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (ROOT / target).exists(), target


def test_the_readme_is_a_page() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 120


def test_prose_is_what_is_neither_code_nor_table_nor_heading() -> None:
    page = "# Title\n\nOne.\n\n| a |\n| --- |\n\n  ```sh\n  code\n  ```\n\n* Two\n  lines."
    assert [line for line in prose(page) if line] == ["One.", "* Two", "  lines."]


@pytest.mark.parametrize("page", sorted(WRITTEN), ids=lambda page: str(page.relative_to(ROOT)))
def test_lines_of_prose_fit(page: Path) -> None:
    limit = 100 if page == README else 120
    long = [line for line in prose(page.read_text(encoding="utf-8")) if len(line) > limit]
    assert not long, f"fill to {limit} characters: {long[0]}"


def test_the_readmes_example_runs(tmp_path: Path) -> None:
    quick = example(README).replace('"epoch_eval_train": 100}', '"epoch_eval_train": 5}')
    assert quick != example(README)
    python(quick, tmp_path)
    assert (tmp_path / "digits.png").stat().st_size > 1000


@pytest.mark.slow
@pytest.mark.parametrize("page", sorted(PAGES), ids=lambda page: str(page.relative_to(DOCS)))
def test_the_python_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    """A page's blocks build on one another; those that fetch something from a hub are left out."""
    for number in range(8):
        photo = tmp_path / "my_photos" / ("cat", "dog")[number % 2] / f"{number}.png"
        photo.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((40, 30), 60).save(photo)
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    python("\n".join(block for block in blocks if "load_dataset(" not in block), tmp_path)

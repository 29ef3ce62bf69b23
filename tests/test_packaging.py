"""The wheel holds both packages, and the examples run."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

from helpers import PATIENCE, ROOT, run_script
from PIL import Image


def test_wheel_holds_the_library_and_the_adapters(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in ("sdc_ext", "adapters", "pyproject.toml", "README.md", "LICENSE"):
        subprocess.run(["cp", "-r", ROOT / name, tree / name], check=True)
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q"]
    subprocess.run([*pip, "-w", tmp_path, tree], check=True, timeout=PATIENCE)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info" not in name}
    expected = {p.relative_to(ROOT).as_posix() for p in (ROOT / "sdc_ext").rglob("*.py")}
    adapters = (p.relative_to(ROOT).as_posix() for p in (ROOT / "adapters").rglob("*.py"))
    expected |= {f"sdc_ext/{name}" for name in adapters}
    kinds = ("py.typed", "*.html.j2", "*.csv")
    others = {p.relative_to(ROOT).as_posix() for k in kinds for p in (ROOT / "sdc_ext").rglob(k)}
    assert {"sdc_ext/report/page.html.j2", "sdc_ext/reproduction/published.csv"} <= others
    assert packed == expected | others


def test_demo_prints_a_table_and_leaves_a_picture(tmp_path: Path) -> None:
    options = ["--seeds", "1", "--num-eval", "1", "--iterations", "1"]
    done = run_script(ROOT / "examples" / "demo.py", *options, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    for row in ("random images", "DC", "DC + SDC"):
        assert row in done.stdout
    with Image.open(tmp_path / "demo.png") as picture:
        assert picture.width > 300

"""A package of others, installed by pip, adds its methods to every command."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import PATIENCE, ROOT

from sdc_ext.sets import SyntheticSet

TINY = [
    *("--network", "convnet:width=8:depth=1", "--iterations", "2", "--ipc", "1"),
    *("--num-eval", "1", "--epoch-eval-train", "2", "--batch-real", "8"),
]
# Runs several commands in one process, since most of a command's time is the import of torch.
DRIVER = """
import contextlib, io, json, sys
from sdc_ext.cli import main
results = []
for command in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(command)
        except SystemExit as end:  # --help
            status = end.code
    results.append([status, out.getvalue(), err.getvalue()])
print(json.dumps(results))
"""
Run = Callable[..., list[tuple[int, str, str]]]


@pytest.fixture
def sdc_ext(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs a command in a fresh environment that has the plug-in, and sees the packages of ours."""
    folder = tmp_path_factory.mktemp("fresh")
    python = folder / "env" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "env"], check=True)
    own = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    ours = sysconfig.get_path("purelib")
    Path(own, "ours.pth").write_text(f"import site; site.addsitedir({ours!r})\n")
    subprocess.run(["cp", "-r", ROOT / "examples" / "plugin", folder / "plugin"], check=True)
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    options = ["--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    subprocess.run([*pip, *options, folder / "plugin"], check=True, timeout=PATIENCE)

    def run(*commands: list[str]) -> list[tuple[int, str, str]]:
        done = subprocess.run(
            [python, "-c", DRIVER, json.dumps(commands)],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stderr
        return [tuple(result) for result in json.loads(done.stdout.splitlines()[-1])]

    return run


def test_methods_of_others_come_with_options_evaluation_comparison_and_report(
    sdc_ext: Run, tmp_path: Path
) -> None:
    out, page = str(tmp_path / "set"), str(tmp_path / "page.html")
    huber = ["distill", "gradient-huber", *TINY, "--delta", "0.05", "--lam", "0.1", "--out", out]
    lams = ["--lam", "0", "0.1", "--seeds", "2", "--out", str(tmp_path / "compared")]
    usage, *done, mistyped = sdc_ext(
        ["distill", "gradient-huber", "--help"],
        huber,
        ["evaluate", out, "--num-eval", "1", "--out", str(tmp_path / "accuracies")],
        ["show", out],
        ["report", out, "--out", page],
        ["compare", "mean-image", *TINY, *lams],
        ["distill", "gradient-hubert"],
    )
    assert "--delta" in usage[1]
    assert [(status, err) for status, _, err in done] == [(0, "")] * 5
    info = SyntheticSet.load(tmp_path / "set").info
    assert (info.method, info.value("delta"), info.value("lam")) == ("gradient-huber", 0.05, 0.1)
    assert "gradient-huber" in done[2][1] and "gradient-huber" in Path(page).read_text()
    assert "GraDN" in done[4][1] and (tmp_path / "compared" / "comparison.png").is_file()
    assert mistyped[0] == 2
    assert "did you mean 'gradient-huber'?" in mistyped[2] and "mean-image" in mistyped[2]

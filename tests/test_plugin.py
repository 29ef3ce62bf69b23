"""A package of others, installed by pip, adds its methods to every command."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import ROOT

from sdc_ext.sets import SyntheticSet

TINY = [
    *("--network", "convnet:width=8:depth=1", "--iterations", "2", "--ipc", "1"),
    *("--num-eval", "1", "--epoch-eval-train", "2", "--batch-real", "8"),
]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
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
    subprocess.run([*pip, *options, folder / "plugin"], check=True, timeout=120)

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [python, "-m", "sdc_ext.cli", *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


def test_a_matching_loss_of_ones_own_has_options_and_comes_with_the_rest(
    sdc_ext: Run, tmp_path: Path
) -> None:
    assert "--delta" in sdc_ext("distill", "gradient-huber", "--help").stdout
    out = tmp_path / "set"
    made = sdc_ext(
        *("distill", "gradient-huber", *TINY, "--delta", "0.05", "--lam", "0.1", "--out", out)
    )
    assert made.returncode == 0, made.stderr
    info = SyntheticSet.load(out).info
    assert (info.method, info.value("delta"), info.value("lam")) == ("gradient-huber", 0.05, 0.1)
    evaluated = sdc_ext("evaluate", out, "--num-eval", "1", "--out", tmp_path / "accuracies")
    assert evaluated.returncode == 0, evaluated.stderr
    reported = sdc_ext("report", out, "--out", tmp_path / "page.html")
    assert reported.returncode == 0, reported.stderr
    assert "gradient-huber" in (tmp_path / "page.html").read_text()
    shown = sdc_ext("show", out)
    assert shown.returncode == 0 and "gradient-huber" in shown.stdout


def test_a_loop_of_ones_own_is_compared(sdc_ext: Run, tmp_path: Path) -> None:
    out = tmp_path / "compared"
    lams = ["--lam", "0", "0.1", "--seeds", "2", "--out", out]
    compared = sdc_ext("compare", "mean-image", *TINY, *lams)
    assert compared.returncode == 0, compared.stderr
    assert "GraDN" in compared.stdout and (out / "comparison.png").is_file()


def test_a_mistyped_method_lists_those_of_others(sdc_ext: Run) -> None:
    mistyped = sdc_ext("distill", "gradient-hubert")
    assert mistyped.returncode == 2
    assert "did you mean 'gradient-huber'?" in mistyped.stderr
    assert "mean-image" in mistyped.stderr

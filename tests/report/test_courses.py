"""Several methods in one chart: what is drawn, and where."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sdc_ext.cli import main
from sdc_ext.report.courses import courses, mean_of
from sdc_ext.report.html_page import read_runs
from sdc_ext.report.runs import Run, by_arm

TINY = [
    *("--network", "convnet:width=4:depth=1", "--batch-real", "8", "--iterations", "10"),
    *("--num-eval", "1", "--epoch-eval-train", "1", "--eval-every", "5"),
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    for method, lam, seed in (("dc", "0", "0"), ("dc", "0", "1"), ("dm", "0.5", "0")):
        out = folder / f"{method}-{seed}"
        arguments = ["--lam", lam, "--seed", seed, "--out", str(out)]
        assert main(["distill", method, *TINY, *arguments]) == 0
    return [folder]


def changed(run: Run, **settings: Any) -> Run:
    added = {name: {"value": value, "source": "a test"} for name, value in settings.items()}
    info = replace(run.info, settings={**run.info.settings, **added})
    return replace(run, synthetic=replace(run.synthetic, info=info))


def test_runs_with_other_settings_are_no_replicates(runs: list[Path]) -> None:
    one, other, dm = read_runs(runs)
    (arm,) = by_arm([one, other])
    assert str(arm) == "lam 0"
    faster, larger = changed(other, lr_img=0.5), changed(other, lr_img=0.5, batch_real=9)
    found = by_arm([one, other, faster, larger])
    assert {str(arm): of_arm for arm, of_arm in found.items()} == {
        "lam 0, lr_img 0.1, batch_real 8": [one, other],
        "lam 0, lr_img 0.5, batch_real 8": [faster],
        "lam 0, lr_img 0.5, batch_real 9": [larger],
    }
    settings = {name: value for name, value in one.info.settings.items() if name != "lr_img"}
    earlier = replace(
        one, synthetic=replace(one.synthetic, info=replace(one.info, settings=settings))
    )
    assert [len(of_arm) for of_arm in by_arm([earlier, other]).values()] == [2]
    assert [len(course.difficulty) for course in courses([one, other, faster, dm])] == [2, 1, 1]
    # What follows from a setting that is named is not named.
    moved = replace(faster, synthetic=replace(one.synthetic, info=replace(faster.info, ipc=2)))
    assert [str(course.arm) for course in courses([one, moved])] == ["lam 0, ipc 1", "lam 0, ipc 2"]


def test_courses_are_relative_and_by_method_and_arm(runs: list[Path]) -> None:
    dc, dm = courses(read_runs(runs))
    assert (dc.method, str(dc.arm), len(dc.difficulty)) == ("dc", "lam 0", 2)
    assert (dm.method, str(dm.arm), len(dm.accuracy)) == ("dm", "lam 0.5", 1)
    for x, y in (*dc.difficulty, *dm.difficulty):
        assert x.tolist() == [10 * k for k in range(1, 11)]
        assert y[0] == pytest.approx(1.0)  # a tenth of ten iterations is the first one
    assert [x.tolist() for x, _ in dc.accuracy] == [[50, 100]] * 2
    mean = mean_of(dc.difficulty)
    assert mean is not None
    assert mean[1] == pytest.approx((dc.difficulty[0][1] + dc.difficulty[1][1]) / 2)
    assert mean_of([dc.difficulty[0], dc.accuracy[0]]) is None


def test_command_draws_them_into_the_page_and_a_picture(runs: list[Path], tmp_path: Path) -> None:
    page, picture = tmp_path / "report.html", tmp_path / "courses.png"
    arguments = ["report", str(runs[0]), "--out", str(page), "--courses", str(picture)]
    assert main(arguments) == 0
    with Image.open(picture) as image:
        assert image.width > 1000
    text = page.read_text()
    assert text.index("Methods: curves") < text.index("dc on digits, 1 image per class: curves")
    assert "part of the run, %" in text


def test_a_picture_that_cannot_be_drawn_is_refused(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(runs[0]), "--courses", str(tmp_path / "a.txt")]) == 2
    assert "name a .png, .pdf or .svg file" in capsys.readouterr().err
    chosen = tmp_path / "random"
    assert main(["select", "random", "--out", str(chosen)]) == 0
    capsys.readouterr()
    arguments = ["--out", str(tmp_path / "page.html"), "--courses", str(tmp_path / "a.png")]
    assert main(["report", str(chosen), *arguments]) == 2
    assert "no set has a history.csv of its run" in capsys.readouterr().err

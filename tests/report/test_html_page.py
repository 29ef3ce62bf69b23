"""The report: one page that holds all it shows and says what the runs say."""

from __future__ import annotations

import base64
import errno
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from sdc_ext.cli import main
from sdc_ext.errors import InputError
from sdc_ext.report import write_report
from sdc_ext.report.svg_charts import Line, line_chart
from sdc_ext.sets.info import Correction

TINY = [
    *("--network", "convnet:width=4:depth=1", "--batch-real", "8", "--iterations", "6"),
    *("--inner-loop", "2", "--num-eval", "2", "--epoch-eval-train", "2", "--eval-every", "3"),
]


class Page(HTMLParser):
    """Which elements there are, their attributes, and the cells of the tables."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.cells: list[str] = []
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in ("meta", "img", "br"):
            self._open.append(tag)
        self.links += [v or "" for k, v in attributes if k in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in ("td", "th"):
            self.cells.append(data)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison of four runs, one of them evaluated on two networks."""
    folder = tmp_path_factory.mktemp("runs") / "both"
    command = ["compare", "dsa", "--lam", "0", "0.5", "--seeds", "2", *TINY, "--ipc", "3"]
    assert main([*command, "--out", str(folder)]) == 0
    chosen = str(folder / "lam-0" / "seed-0")
    networks = ["--networks", "mlp,convnet:width=4:depth=1", "--epoch-eval-train", "2"]
    assert main(["evaluate", chosen, "--num-eval", "2", *networks]) == 0
    return folder


def report(out: Path, *folders: Path) -> tuple[str, Page]:
    assert main(["report", *map(str, folders), "--out", str(out)]) == 0
    text = out.read_text()
    return text, Page(text)


def test_page_holds_everything_itself(tmp_path: Path, runs: Path) -> None:
    text, page = report(tmp_path / "report.html", runs)
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in page.links)
    assert "script" not in page.tags and "link" not in page.tags
    assert 'name="viewport"' in text and "color-scheme: light dark" in text


def test_page_says_what_the_runs_say(tmp_path: Path, runs: Path) -> None:
    text, page = report(tmp_path / "report.html", runs)
    assert "<title>dsa on digits, 3 images per class</title>" in text
    for cell in ("lam-0/seed-0", "lam-0.5/seed-1", "lam 0.5", "mlp", "p, sign test", "seed"):
        assert cell in page.cells
    assert page.tags.count("svg") == 3  # accuracy, GraDN, matching loss
    for title in ("test accuracy %", "GraDN (difficulty)", "matching loss"):
        assert title in text
    assert re.search(r"first to the last tenth.*with lam 0; .* with lam 0\.5", text)
    assert page.tags.count("img") == 2  # a picture a correction
    assert "Not shown: 2 more" in text


def test_comparisons_of_this_and_of_earlier_versions(tmp_path: Path, runs: Path) -> None:
    _, page = report(tmp_path / "report.html", runs)
    for cell in ("arm", "p, Holm", "p, equivalence", "95 %, any look", "unbounded", "verdict"):
        assert cell in page.cells
    _, compared = json.loads((runs / "comparison.json").read_text())
    assert compared["verdict"].startswith("lam 0.5: ") and compared["verdict"] in page.cells
    diverged = tmp_path / "diverged"
    shutil.copytree(runs, diverged)
    rows = [
        *json.loads((runs / "comparison.json").read_text()),
        {"arm": "lam 9", "diverged": "nan"},
    ]
    (diverged / "comparison.json").write_text(json.dumps(rows))
    _, page = report(tmp_path / "diverged.html", diverged)
    assert "lam 9" in page.cells and "left out: nan" in page.cells
    earlier = tmp_path / "earlier"
    shutil.copytree(runs, earlier)
    base = {"lam": 0.0, "mean": 0.5, "std": 0.1, "n": 2}
    gain = {"difference": 0.0123, "t_interval": [0, 1], "bootstrap_interval": [0, 1], "wins": 1}
    gain |= {"losses": 0, "sign_test": 1.0, "seeds_for_0.005": None}
    (earlier / "comparison.json").write_text(json.dumps([base, {**base, "lam": 0.5, **gain}]))
    _, page = report(tmp_path / "earlier.html", earlier)
    assert "lam 0.5" in page.cells and "+1.23" in page.cells
    (earlier / "comparison.json").write_text(json.dumps([{**base, "arm": 3}]))
    with pytest.raises(InputError, match=r"entry 0, is damaged \(arm: Expected `?str"):
        write_report([earlier], tmp_path / "damaged.html")


def test_corrections_are_told_apart_by_their_values(
    tmp_path: Path, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Correction, "__str__", lambda correction: "in other words")
    text, page = report(tmp_path / "report.html", runs)
    assert len(re.findall(r"</span>in other words</li>", text)) == 2
    assert len(re.findall(r" to [0-9.]+ with in other words", text)) == 2
    assert page.tags.count("img") == 2


def test_picture_is_the_distilled_images(tmp_path: Path, runs: Path) -> None:
    _, page = report(tmp_path / "report.html", runs / "lam-0" / "seed-0")
    (picture,) = [link for link in page.links if link.startswith("data:")]
    content = base64.b64decode(picture.partition(",")[2])
    with Image.open(io.BytesIO(content)) as image:
        shown = np.asarray(image)
        assert image.height > image.width  # ten rows of three images
    assert shown.std() > 10
    with Image.open(runs / "lam-0" / "seed-0" / "grid.png") as image:
        assert np.array_equal(shown, np.asarray(image))


def test_selected_images_have_no_curves(tmp_path: Path) -> None:
    assert main(["select", "random", "--out", str(tmp_path / "set")]) == 0
    _, page = report(tmp_path / "report.html", tmp_path / "set")
    assert "svg" not in page.tags and "img" in page.tags


def test_what_a_stranger_wrote_is_no_markup(tmp_path: Path, runs: Path) -> None:
    folder = tmp_path / "<b>"
    folder.mkdir()
    source = runs / "lam-0" / "seed-0"
    hostile = rb'"<script>\"\u001b[2J"'
    for name in ("meta.json", "synthetic.safetensors"):
        content = (source / name).read_bytes().replace(b'"dsa"', hostile)
        (folder / name).write_bytes(content.replace(b'"7"', hostile))  # a class
    text, page = report(tmp_path / "report.html", folder)
    assert "script" not in page.tags
    seen = r"&lt;script&gt;&#34;\x1b[2J"
    (described,) = re.findall('alt="([^"]*)"', text)
    assert seen in described and text.count(seen) > 1 and "\x1b" not in text


def test_folders_are_read_once_and_before_the_page_is_written(
    tmp_path: Path, runs: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    once, _ = report(tmp_path / "once.html", runs)
    twice, _ = report(tmp_path / "twice.html", runs, runs)
    assert once == twice
    assert caplog.messages == [f"{runs} is left out, since it was named before"]
    shutil.copytree(runs, tmp_path / "runs")
    history = tmp_path / "runs" / "lam-0" / "seed-0" / "history.csv"
    history.unlink()
    history.symlink_to("/proc/self/mem")
    capsys.readouterr()
    assert main(["report", str(tmp_path / "runs"), "--out", str(tmp_path / "new.html")]) == 2
    assert capsys.readouterr().err == f"sdc-ext: cannot use {history}: Input/output error\n"


def test_a_page_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, text: str, encoding: str) -> None:
        with path.open("w", encoding=encoding) as file:
            file.write(text[:9])
        raise OSError(errno.ENOSPC, "no space left")

    page = tmp_path / "report.html"
    page.write_text("mine")
    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(OSError, match=r"(?i)no space left"):
        write_report([runs], page)
    assert page.read_text() == "mine" and [*tmp_path.iterdir()] == [page]


def test_folder_without_sets_and_existing_page_are_refused(
    tmp_path: Path, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "report.html"
    assert main(["report", str(tmp_path), "--out", str(page)]) == 2
    assert "holds no distilled set" in capsys.readouterr().err
    assert not page.exists()
    page.write_text("mine")
    assert main(["report", str(runs), "--out", str(page)]) == 2
    assert page.read_text() == "mine"


def test_chart_follows_the_page_and_is_the_same_every_time() -> None:
    lines = [Line(range(40), np.linspace(1, 2, 40), 0), Line([0, 1], [1, float("nan")], 1)]
    chart = line_chart("a < b", lines, "iteration", smooth=True)
    assert "currentColor" in chart and "#010203" not in chart
    root = ElementTree.fromstring(chart)
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "a < b" in texts and "iteration" in texts
    assert chart == line_chart("a < b", lines, "iteration", smooth=True)


def test_runs_without_a_set_are_left_out(
    tmp_path: Path, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = tmp_path / "begun"
    begun.mkdir()
    (begun / "run.json").write_text("{}")
    page = tmp_path / "report.html"
    assert main(["report", str(begun), "--out", str(page)]) == 2
    assert "has not saved a set yet: finish it first" in capsys.readouterr().err
    report(page, runs, begun)
    assert f"left out, since they have not saved a set yet: {begun}" in capsys.readouterr().out
    write_report([str(runs)], str(tmp_path / "again.html"))

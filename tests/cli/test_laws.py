"""``sdc-ext theory scaling`` and ``coverage`` as a user types them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from law_data import FIVE, SEVEN, evaluated, write
from PIL import Image

from sdc_ext.cli import main

NETWORKS = ("convnet", "mlp", "alexnet", "resnet18")


def table(folder: Path, sizes: Sequence[int], networks: Sequence[str] = NETWORKS) -> str:
    """Three sets a size on all networks, whose errors have a floor; and all real images."""
    random = np.random.default_rng(0)
    rows = []
    for k, network in enumerate(networks):
        for images in sizes:
            for name in "abc":
                gap = 0.1 + (0.4 + 0.1 * k) * images**-0.5 + random.normal(0, 0.005)
                changes = {"set": f"{name}{images}", "images": images, "network": network}
                rows.append(evaluated(**changes, accuracy=0.9 - gap))
        real = {"set": "real", "method": "real", "images": 5000, "network": network}
        rows += [evaluated(**real, index=i, accuracy=0.9 + 0.001 * i) for i in (-1, 1)]
    return str(write(folder / "accuracies.csv", rows))


def test_scaling_prints_and_keeps_laws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "laws"
    assert main(["theory", "scaling", table(tmp_path, SEVEN), "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert "gap of dc on digits, lam 0, convnet over 7 sizes" in told
    assert told.count("floor: floor (likelihood ratio p = ") == len(NETWORKS)
    laws = json.loads((out / "scaling.json").read_text())
    assert [law["series"]["configuration"] for law in laws] == list(NETWORKS)
    assert laws[0]["laws"]["S0"]["saturation"] is None
    assert laws[0]["laws"]["S2"]["floor"] == pytest.approx(0.1, abs=0.02)
    assert (laws[0]["chosen"], laws[0]["verdict"]) == ("S2", "floor")
    with Image.open(out / "scaling.png") as picture:
        assert picture.width > 600


def test_series_without_a_law_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "few").mkdir()
    few = table(tmp_path / "few", FIVE[:2], ["vgg11"])
    assert main(["theory", "scaling", table(tmp_path, FIVE[:4]), few]) == 0
    told = capsys.readouterr().out
    assert "left out: dc on digits, lam 0, vgg11: a scaling law needs at least 3 sizes" in told
    assert "floor: undetermined, 4 of the 5 sizes needed" in told
    assert main(["theory", "scaling", few]) == 2
    assert "got 2 sizes and 6 sets: distil more sizes" in capsys.readouterr().err


@pytest.mark.parametrize("target", [[], ["--target", "0.0001"]])
def test_coverage_prints_and_keeps_laws(
    tmp_path: Path, target: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "laws"
    command = ["theory", "coverage", table(tmp_path, FIVE), "--out", str(out)]
    assert main([*command, *target]) == 0
    told = capsys.readouterr().out
    assert "gap of dc on digits, lam 0: one set on M configurations, of 4" in told
    assert ("over 1000" in told) == bool(target)
    (law,) = json.loads((out / "coverage.json").read_text())
    assert (law["counts"], law["sizes"]) == ([1, 2, 4], list(FIVE))
    assert (law["trends"]["ln M"] is None) == bool(target)
    with Image.open(out / "coverage.png") as picture:
        assert picture.width > 600


def test_a_seed_says_it_all(tmp_path: Path) -> None:
    csv = table(tmp_path, FIVE)
    for name in "ab":
        for law in ("scaling", "coverage"):
            assert (
                main(["theory", law, csv, "--seed", "3", "--out", f"{tmp_path}/{law}{name}"]) == 0
            )
    for law in ("scaling", "coverage"):
        first, again = (tmp_path / f"{law}{name}/{law}.json" for name in "ab")
        assert first.read_bytes() == again.read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["scaling", "none.csv"], "cannot use none.csv: No such file"),
        (["scaling", "none.csv", "--out", "."], ". exists: choose another --out"),
        (
            ["coverage", "none.csv", "--target", "30"],
            "--target must be a number above 0 and below 1, got 30",
        ),
        (["scaling"], "the following arguments are required: CSV (see sdc-ext theory scaling"),
        ([], "the following arguments are required: THEORY"),
    ],
)
def test_bad_input(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["theory", *options]) == 2
    assert message in capsys.readouterr().err

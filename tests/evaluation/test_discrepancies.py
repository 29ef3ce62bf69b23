"""Discrepancies against plain references, and the ratios that are told of sets."""

from __future__ import annotations

import csv
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import stats
from torch import Tensor

from sdc_ext.cli import main
from sdc_ext.data.load import load_data
from sdc_ext.data.real import RealData
from sdc_ext.errors import InputError
from sdc_ext.evaluation.closeness import POOLED, SPACES, Closeness, compare_with_real, feature_maps
from sdc_ext.evaluation.discrepancies import (
    DISCREPANCIES,
    TRANSPORT,
    choose_discrepancies,
    coverage_radius,
    energy_distance,
    mmd_linear,
    sinkhorn,
    sliced_wasserstein,
    wasserstein,
)
from sdc_ext.evaluation.selection import random_like
from sdc_ext.matching import discrepancies
from sdc_ext.matching.discrepancies import BANDWIDTHS, median_distance
from sdc_ext.report.tables import closeness_table
from sdc_ext.sets.info import SetInfo
from sdc_ext.sets.synthetic_set import SyntheticSet, class_labels
from sdc_ext.training.probe import Probe
from sdc_ext.training.recipe import TrainingRecipe

EVERY = {**DISCREPANCIES, **TRANSPORT}
every = pytest.mark.parametrize("name", EVERY)
QUICK = Probe(network="convnet:depth=1:width=4", train_epochs=1)
CPU = torch.device("cpu")


def points(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def plain_mmd(name: str, real: Tensor, others: Tensor) -> float:
    """Sums over all pairs, one at a time."""
    far = [float((x - y).norm()) for i, x in enumerate(real) for y in real[:i]]
    scale = float(torch.tensor(far, dtype=torch.float64).median())

    def kernel(x: Tensor, y: Tensor) -> float:
        distance = float((x - y).norm())
        return {
            "mmd-linear": float(x @ y),
            "mmd-gaussian": sum(math.exp(-((distance / s / scale) ** 2) / 2) for s in BANDWIDTHS)
            / len(BANDWIDTHS),
            "mmd-laplacian": math.exp(-distance / scale),
            "mmd-polynomial": (float(x @ y) / len(x) + 1) ** 3,
            "energy": -distance,
        }[name]

    def mean(a: Tensor, b: Tensor) -> float:
        return sum(kernel(x, y) for x in a for y in b) / (len(a) * len(b))

    return mean(real, real) + mean(others, others) - 2 * mean(real, others)


@pytest.mark.parametrize("name", [name for name in DISCREPANCIES if name != "coverage"])
@pytest.mark.parametrize("m", [1, 5])
def test_kernels_are_sums_over_pairs(name: str, m: int) -> None:
    real, sets = points(12, 3), 0.5 + points(2, m, 3, seed=1)
    expected = [plain_mmd(name, real, others) for others in sets]
    torch.testing.assert_close(EVERY[name](real, sets).tolist(), expected)


def test_coverage_is_the_farthest_from_its_nearest() -> None:
    real = torch.tensor([[0.0], [1.0], [7.0]])
    assert coverage_radius(real, torch.tensor([[[0.0], [5.0]], [[7.0], [3.0]]])).tolist() == [2, 3]


def test_linear_sees_means_alone() -> None:
    real, shifted = points(9, 4), points(1, 30, 4, seed=1)
    shifted += real.mean(0) - shifted.mean(1)
    assert float(mmd_linear(real, shifted)) == pytest.approx(0, abs=1e-12)
    assert float(mmd_linear(real, shifted + 2)) == pytest.approx(4 * 2**2)


@settings(deadline=None)
@given(st.lists(st.floats(-10, 10), min_size=1, max_size=9), st.integers(1, 9))
def test_energy_and_sliced_in_one_dimension_are_scipys(real: list[float], m: int) -> None:
    others = points(1, m, 1)
    x, y = torch.tensor(real, dtype=torch.float64)[:, None], others[0, :, 0].numpy()
    expected = stats.energy_distance(real, y) ** 2
    assert float(energy_distance(x, others)) == pytest.approx(expected, abs=1e-6)
    # Repeated to one length, sorted points are matched in their order.
    n = math.lcm(len(real), m)
    left, right = (np.sort(np.repeat(v, n // len(v))) for v in (np.array(real), y))
    expected = float(((left - right) ** 2).mean())
    assert float(sliced_wasserstein(x, others)) == pytest.approx(expected, abs=1e-6)
    assert float(wasserstein(x, others)) == pytest.approx(expected, abs=1e-6)


def test_transport_of_translated_points_is_the_way() -> None:
    real, way = points(20, 3), torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    sets = torch.stack([real + way, real.flip(0) - 2 * way])
    expected = float(way.square().sum()) * torch.tensor([1.0, 4.0], dtype=torch.float64)
    torch.testing.assert_close(wasserstein(real, sets), expected)
    torch.testing.assert_close(sinkhorn(real, sets, 0.5), expected, rtol=1e-3, atol=0)
    # A direction sees a third of a squared length on average.
    torch.testing.assert_close(sliced_wasserstein(real, sets), expected / 3, rtol=0.2, atol=0)


def test_sinkhorn_lies_between_transport_and_means() -> None:
    real, sets = points(30, 2), 0.4 + points(2, 8, 2, seed=1)
    torch.testing.assert_close(
        sinkhorn(real, sets, 0.05), wasserstein(real, sets), rtol=0.03, atol=0
    )
    torch.testing.assert_close(sinkhorn(real, sets, 30), mmd_linear(real, sets), rtol=0.01, atol=0)


@every
def test_a_set_is_no_way_off_itself_and_others_are(name: str) -> None:
    real = points(15, 6)
    same, other = EVERY[name](real, torch.stack([real[torch.randperm(15)], real + 1])).tolist()
    assert same == pytest.approx(0, abs=1e-5)
    assert other > 0.01


@every
@settings(max_examples=15, deadline=None)
@given(n=st.integers(1, 12), m=st.integers(1, 6), d=st.integers(1, 5), seed=st.integers(0, 99))
def test_order_and_parts_change_nothing(name: str, n: int, m: int, d: int, seed: int) -> None:
    measure, real, sets = EVERY[name], points(n, d, seed=seed), points(2, m, d, seed=seed + 1)
    expected = measure(real, sets)
    assert expected.shape == (2,) and bool((expected >= 0).all())
    shuffled = measure(real[torch.randperm(n)], sets[:, torch.randperm(m)])
    torch.testing.assert_close(shuffled, expected, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(measure(real, sets[1:]), expected[1:])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(discrepancies, "PAIRS", 7)
        torch.testing.assert_close(measure(real, sets), expected, rtol=1e-6, atol=1e-6)


@every
def test_one_real_point_has_discrepancies(name: str) -> None:
    assert EVERY[name](torch.zeros(1, 2), torch.ones(1, 1, 2)).isfinite().all()


def test_median_distance_of_many_points() -> None:
    assert float(median_distance(torch.tensor([[0.0], [1.0], [3.0]]))) == 2
    assert float(median_distance(torch.ones(4, 2))) == 1
    many = points(2500, 2)
    expected = torch.pdist(many).median()
    assert float(median_distance(many)) == pytest.approx(float(expected), rel=0.05)


def test_bad_names_list_the_choices() -> None:
    with pytest.raises(InputError, match=r"did you mean 'energy'\? choose from coverage, energy"):
        choose_discrepancies(["enrgy"])
    with pytest.raises(InputError, match="choose from pixels, random, trained"):
        feature_maps(["pixel"], load_data("digits"), QUICK, seed=0, device=CPU)


def test_without_pot_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ot", None)
    assert list(choose_discrepancies(["energy"])) == ["energy"]
    with pytest.raises(InputError, match=r'needs POT: pip install "sdc-ext\[ot\]"'):
        choose_discrepancies(["energy", "wasserstein"])


def real_set(data: RealData, labels: Tensor, seed: int) -> SyntheticSet:
    chosen = random_like(labels, data, seed)
    recipe = TrainingRecipe(20)
    info = SetInfo("random", "digits", data.classes, data.mean, data.std, 1, "convnet", recipe)
    return SyntheticSet(data.normalize(data.train.images[chosen]), labels, info)


def compared(synthetic: SyntheticSet, *spaces: str, draws: int = 20) -> list[Closeness]:
    data = load_data("digits")
    maps = feature_maps(spaces or ("pixels",), data, QUICK, seed=0, device=CPU)
    options = {"draws": draws, "seed": 0, "max_real": 500}
    return compare_with_real(synthetic, data, maps, DISCREPANCIES, **options)


@pytest.mark.parametrize("ipc", [1, 10])
def test_random_images_are_as_far_as_random_images(ipc: int) -> None:
    data = load_data("digits")
    sets = [real_set(data, class_labels(10, ipc), seed) for seed in range(6)]
    rows = [row for synthetic in sets for row in compared(synthetic)]
    for measure in DISCREPANCIES:
        ratios = [r.ratio for r in rows if (r.measure, r.images) == (measure, POOLED)]
        assert sum(ratios) / len(ratios) == pytest.approx(1, abs=0.25)
    assert {row.real for row in rows if row.images == POOLED} == {500}
    assert {row.synthetic for row in rows} == {ipc, 10 * ipc}


def test_shuffled_classes_are_seen_by_class_alone() -> None:
    data = load_data("digits")
    synthetic = real_set(data, class_labels(10, 10), 0)
    # Each class has one image of every other.
    rows = compared(
        replace(synthetic, images=synthetic.images[torch.arange(100).view(10, 10).T.flatten()])
    )
    for row in rows:
        if row.measure == "energy":
            assert (0.5 < row.ratio < 2) if row.images == POOLED else row.ratio > 2


def test_every_space_and_class_has_a_row_and_the_seed_decides() -> None:
    synthetic = real_set(load_data("digits"), torch.tensor([3, 0, 3]), 0)
    rows = compared(synthetic, *SPACES, draws=2)
    assert {row.space for row in rows} == set(SPACES)
    assert [row.images for row in rows if row.measure == row.space or row.measure == "energy"] == [
        name for name in (POOLED, "0", "3") for _ in SPACES
    ]
    assert all(math.isfinite(row.ratio) and row.value >= 0 for row in rows)
    assert compared(synthetic, *SPACES, draws=2) == rows


def test_ratio_is_of_means() -> None:
    row = Closeness("pixels", "energy", POOLED, 9, 2, 3.0, (1.0, 2.0, 3.0))
    assert (row.ratio, row.random_std, row.noise) == (1.5, 1.0, 0.5)
    assert math.isnan(replace(row, random=(0.0, 0.0)).ratio)


def test_classes_without_a_ratio_are_counted_in_the_table() -> None:
    def row(images: str, *random: float) -> Closeness:
        return Closeness("pixels", "energy", images, 9, 2, 3.0, random, images == POOLED)

    rows = [row(POOLED, 1.0, 2.0), row("0", 1.0, 1.0), row("1", 0.0, 0.0), row("2", 1.0, 2.0)]
    *_, by_class = closeness_table({"all": rows, "none": [rows[0], rows[2]]}).columns
    assert [*map(str, by_class.cells)] == ["2.5 (2 of 3 classes)", "- (0 of 1 classes)"]


@pytest.mark.parametrize(("draws", "max_real"), [(1, 5), (2, 0)])
def test_too_few_are_refused(draws: int, max_real: int) -> None:
    data = load_data("digits")
    synthetic = real_set(data, class_labels(10, 1), 0)
    with pytest.raises(InputError, match=r"`(draws|max_real)` must be at least"):
        compare_with_real(synthetic, data, {}, {}, draws=draws, seed=0, max_real=max_real)


def test_command_leaves_table_and_chart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, ipc in (("a", "1"), ("b", "2")):
        assert main(["select", "random", "--ipc", ipc, "--out", name]) == 0
    command = ["discrepancy", "a", "b", "--draws", "3", "--network", QUICK.network]
    command += ["--train-epochs", "1", "--measures", "energy, sliced", "--max-real", "50"]
    assert main([*command, "--out", "out"]) == 0
    printed = capsys.readouterr().out
    assert "random real images = 1" in printed and "by class" in printed
    with Path("out/discrepancies.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 3 * 2 * 11
    first = rows[0]
    assert (first["set"], first["images"], first["real"]) == ("a", POOLED, "50")
    ratio = float(first["value"]) / float(first["random_mean"])
    assert float(first["ratio"]) == pytest.approx(ratio)
    with Image.open("out/discrepancies.png") as picture:
        assert picture.width > 300
    assert main([*command, "--out", "out"]) == 2
    assert "out exists: choose another --out" in capsys.readouterr().err
    assert main(["discrepancy", "a", "--measures", "energi"]) == 2
    assert main(["discrepancy", "a", "--spaces", "pixel"]) == 2
    assert "choose from pixels, random, trained" in capsys.readouterr().err
    assert not Path("a/discrepancy").exists()

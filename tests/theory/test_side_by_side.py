"""Two families on the same configurations: paired differences of the worst of M."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from law_data import FAMILY, evaluated, write
from scipy import stats

from sdc_ext.cli import main
from sdc_ext.errors import InputError
from sdc_ext.theory import Series, collect, compare_coverage, read_accuracies
from sdc_ext.theory.accuracies import Family
from sdc_ext.theory.tables import side_by_side_tables

SIZES = (10, 20, 50)
POOLED = Family("digits", "dc", "lam 0", "convnet,mlp")


def family(
    gaps: np.ndarray,
    of_family: Family,
    noise: float = 0.0,
    quality: np.ndarray | None = None,
    seed: int = 0,
) -> list[Series]:
    """Gaps (configurations,) that fall with the size, with noise and the quality of each set."""
    random = np.random.default_rng(seed)
    quality = np.zeros(5) if quality is None else quality
    series = []
    for k, gap in enumerate(gaps):
        halves = {
            size: {
                str(r): (
                    float(gap * (10 / size) ** 0.5 + q + noise * random.standard_normal()),
                    float(gap * (10 / size) ** 0.5 + q + noise * random.standard_normal()),
                )
                for r, q in enumerate(quality)
            }
            for size in SIZES
        }
        values = {size: {r: sum(v) / 2 for r, v in of.items()} for size, of in halves.items()}
        series.append(Series(of_family, f"net{k}", "gap", values, 0.0, halves))
    return series


def test_without_noise_the_difference_is_that_of_the_worst() -> None:
    one, pool = np.linspace(0.1, 0.4, 16), np.linspace(0.1, 0.3, 16)
    found = compare_coverage(family(one, FAMILY), family(pool, POOLED), target=0.2, draws=20)
    assert found.counts == (1, 2, 4, 8, 16) and found.pairs == (5, 5, 5)
    last = found.differences[-1]
    shrink = (10 / np.array(SIZES)) ** 0.5
    np.testing.assert_allclose([one.mean for one in last], 0.1 * shrink)
    np.testing.assert_allclose([one.mean for one in found.differences[0]], 0.05 * shrink)
    assert last[0].interval == (-np.inf, np.inf)  # all pairs agree: the spread is unknown
    *_, cell = side_by_side_tables(found)[1].columns[1].cells
    assert str(cell) == "+0.100\nunbounded"
    # Gaps of 0.4 and 0.3 fall to 0.2 between 20 and 50 images, the larger one later.
    needed = [of_family[-1].images for of_family in found.required]
    assert 20 < needed[1] < needed[0] < 50
    assert found.intervals[0][-1] == pytest.approx((needed[0], needed[0]))


def test_pairs_cancel_the_quality_of_their_seed() -> None:
    quality = np.random.default_rng(1).normal(0, 0.1, 5)
    gaps = np.linspace(0.1, 0.4, 8)
    found = compare_coverage(
        family(gaps, FAMILY, 0.002, quality),
        family(gaps - 0.05, POOLED, 0.002, quality, seed=2),
        draws=2,
    )
    for one, size in zip(found.differences[-1], SIZES, strict=True):
        assert one.mean == pytest.approx(0.05 * (10 / size) ** 0.5, abs=0.005)
        assert one.interval[1] - one.interval[0] < 0.02


def test_more_noise_in_one_family_makes_no_worst_of_m() -> None:
    """The plain worst of 16 would be 1.77 standard deviations of 0.03 higher in the first one."""
    gaps = np.full(16, 0.2)
    found = [
        compare_coverage(
            family(gaps, FAMILY, 0.03, seed=2 * k), family(gaps, POOLED, seed=2 * k + 1), draws=2
        )
        for k in range(60)
    ]
    last = [one for result in found for one in result.differences[-1]]
    assert np.mean([one.mean for one in last]) == pytest.approx(0, abs=0.004)
    covered = sum(one.interval[0] <= 0 <= one.interval[1] for one in last)
    assert covered >= stats.binom.ppf(0.001, len(last), 0.95)


def test_too_little_to_compare() -> None:
    gaps = np.linspace(0.1, 0.4, 4)
    few = [
        Series(s.family, s.configuration, "gap", {10: dict([("0", 0.1)])}, 0)
        for s in family(gaps, POOLED)
    ]
    with pytest.raises(InputError, match="no size with 3 pairs of sets"):
        compare_coverage(family(gaps, FAMILY), few)
    with pytest.raises(InputError, match="share 1 of the 2 configurations"):
        compare_coverage(family(gaps, FAMILY), family(gaps[:1], POOLED))


def rows(networks: tuple[str, ...], **changes: object) -> list[dict[str, object]]:
    return [
        evaluated(
            set=f"{pool}-{images}-{seed}",
            images=images,
            network=f"net{k}",
            distilled_with=pool,
            distilled_seed=seed,
            accuracy=0.5 + 0.001 * images + 0.01 * seed + 0.05 * k * (pool == networks[0]),
            **changes,
        )
        for pool in networks
        for images in (10, 20)
        for seed in range(3)
        for k in range(4)
    ]


def test_families_are_told_apart_by_what_they_were_distilled_with(tmp_path: Path) -> None:
    series = collect(read_accuracies([write(tmp_path / "a.csv", rows(("convnet", "convnet,mlp")))]))
    assert {s.family.network for s in series} == {"convnet", "convnet,mlp"}
    assert all(set(s.values[10]) == {"0", "1", "2"} for s in series)
    alone = collect(read_accuracies([write(tmp_path / "b.csv", rows(("convnet",)))]))
    assert {str(s.family) for s in alone} == {"dc on digits, lam 0"}


def test_the_command_compares_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = write(tmp_path / "a.csv", rows(("convnet", "convnet,mlp")))
    assert main(["theory", "coverage", str(table), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "left out: dc on digits, lam 0, distilled with convnet: a coverage law" in printed
    assert "first minus second, over 3 pairs of sets" in printed
    (found,) = json.loads((tmp_path / "out" / "side-by-side.json").read_text())
    # The best of 4 of the first has 0.15 more, the worst as much as the second's.
    assert found["differences"][-1][0]["mean"] == pytest.approx(0)
    assert found["differences"][0][0]["mean"] == pytest.approx(-0.075)
    assert (tmp_path / "out" / "side-by-side.png").is_file()

"""The membership attack: its parts, its controls, and the command."""

from __future__ import annotations

import csv
import statistics
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy import stats

from sdc_ext import load_data, membership_of
from sdc_ext.adapters import METHODS
from sdc_ext.cli import main
from sdc_ext.data.preprocessing import Preprocessing
from sdc_ext.errors import DivergenceError, InputError
from sdc_ext.evaluation.evaluator import TrainedOn, trained_network
from sdc_ext.evaluation.membership import (
    Attack,
    Attacks,
    confidence,
    draw_halves,
    likelihood_ratios,
)
from sdc_ext.verbs import membership
from sdc_ext.verbs.membership import _auditable

QUICK: dict[str, Any] = {
    "network": "convnet:depth=1:width=16",
    "epoch_eval_train": 100,
    "images": 60,
    "progress": False,
}


def test_halves_complement_each_other_within_classes() -> None:
    labels = torch.tensor([0] * 10 + [1] * 7)
    halves = draw_halves(labels, 8, seed=0)
    assert bool((halves[::2] ^ halves[1::2]).all())
    assert halves.sum(0).tolist() == [4] * 17
    for half in halves:
        counts = labels[half].bincount(minlength=2).tolist()
        assert counts[0] == 5 and counts[1] in (3, 4)
    assert torch.equal(halves, draw_halves(labels, 8, seed=0))
    assert not torch.equal(halves, draw_halves(labels, 8, seed=1))


def test_confidence_is_the_logit_of_the_probability() -> None:
    logits = torch.randn(5, 3, dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 0, 1])
    p = logits.softmax(1)[torch.arange(5), labels]
    torch.testing.assert_close(confidence(logits, labels), p.logit())
    sure = confidence(torch.tensor([[500.0, 0.0]]), torch.tensor([0]))
    assert sure.tolist() == [500.0]


def test_ratios_are_those_of_two_normal_distributions() -> None:
    members = torch.tensor([[1, 0], [0, 1], [1, 0], [0, 1], [1, 0], [0, 1]]).bool()
    confidences = torch.tensor(
        [[9.0, 9.0], [0.0, 4.0], [3.0, 1.0], [1.0, 6.0], [5.0, 0.0], [2.0, 5.0]]
    ).double()
    found = likelihood_ratios(confidences, members, attacked=0)
    # Without the first two, inside: (3, 5) and (6, 5); outside: (1, 2) and (1, 0). Pooled: n - 1
    # per image.
    inside, outside = ((2 + 0.5) / 2) ** 0.5, ((0.5 + 0.5) / 2) ** 0.5
    expected = [
        stats.norm.logpdf(9, 4, inside) - stats.norm.logpdf(9, 1.5, outside),
        stats.norm.logpdf(9, 5.5, inside) - stats.norm.logpdf(9, 0.5, outside),
    ]
    assert found.tolist() == pytest.approx(expected)


def test_the_area_is_the_probability_of_the_right_order() -> None:
    torch.manual_seed(0)
    ratios, members = torch.randint(0, 6, (40,)).double(), torch.rand(40) < 0.5
    u = stats.mannwhitneyu(ratios[members], ratios[~members]).statistic
    expected = u / (members.sum() * (~members).sum())
    assert Attack.of(ratios, members).auc == pytest.approx(float(expected))
    perfect = Attack.of(torch.arange(4.0), torch.tensor([False, False, True, True]))
    assert perfect.auc == 1 and perfect.true_positive_at(0.01) == 1
    assert Attack.of(torch.zeros(4), members[:4]).auc == 0.5


def test_a_guess_finds_more_than_the_rate_among_few_images() -> None:
    members, random = torch.arange(30) < 15, torch.Generator().manual_seed(0)
    guesses = [
        Attack.of(torch.rand(30, generator=random, dtype=torch.float64), members)
        for _ in range(400)
    ]
    rates = [attack.true_positive_at(0.1) for attack in guesses]
    assert guesses[0].guessed_at(0.1) == 2 / 16  # of 15 others, one may be taken
    error = statistics.stdev(rates) / 400**0.5
    assert abs(statistics.fmean(rates) - 2 / 16) < 3 * error


def test_independent_confidences_reveal_nothing_and_shifted_ones_do() -> None:
    members = draw_halves(torch.zeros(400), 16, seed=0)
    noise = torch.randn(16, 400, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    null, shifted = (Attacks.of(noise + shift * members, members).auc for shift in (0, 2))
    assert abs(null.mean - 0.5) < null.half_width
    # Two unit normals whose means are 2 apart, less what the estimated means cost.
    assert shifted.mean == pytest.approx(stats.norm.cdf(2**0.5), abs=0.03)


def test_a_network_that_diverged_is_named() -> None:
    members = draw_halves(torch.zeros(20), 6, seed=0)
    confidences = torch.rand(6, 20, dtype=torch.float64)
    confidences[4, 7] = torch.nan
    with pytest.raises(DivergenceError, match="shadow 4 diverged"):
        Attacks.of(confidences, members)


def test_intervals_cover_the_area_under_confidences_that_networks_share() -> None:
    covered, areas = 0, []
    for seed in range(60):
        members = draw_halves(torch.zeros(40), 12, seed=seed)
        generator = torch.Generator().manual_seed(seed)
        of_network, of_image, noise = (
            torch.randn(*shape, generator=generator, dtype=torch.float64)
            for shape in ((12, 1), (1, 40), (12, 40))
        )
        auc = Attacks.of(2 * of_network + of_image + noise, members).auc
        covered += abs(auc.mean - 0.5) <= auc.half_width
        areas.append(auc.mean)
    assert covered >= 53  # of 60 at 95 %, fewer in 1 of 50 cases
    assert abs(statistics.fmean(areas) - 0.5) < 2.5 * statistics.stdev(areas) / 60**0.5


def test_planted_images_are_found_and_absent_ones_are_not(tmp_path: Path) -> None:
    planted = membership_of("random", control="planted", out=tmp_path / "out", **QUICK)
    assert planted.attacks.auc.mean - planted.attacks.auc.half_width > 0.7
    null = membership_of("random", control="null", **QUICK).attacks.auc
    assert abs(null.mean - 0.5) < 2 * null.half_width
    with (tmp_path / "out/membership.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 16
    assert (tmp_path / "out/membership.png").stat().st_size > 0


def test_workers_find_what_one_process_does_for_a_distilled_set() -> None:
    quick = QUICK | {"shadows": 6, "images": 20, "epoch_eval_train": 2, "num_eval": 1}
    quick |= {"iterations": 1, "batch_real": 4}
    alone, together = (
        membership_of("dm", workers=who, **quick) for who in (1, ThreadPoolExecutor(1))
    )
    assert alone.rows() == together.rows()


def test_whitened_sets_are_attacked_under_the_whitening_of_their_half(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whitened_by = []

    def trained(how: TrainedOn, *rest: Any) -> torch.nn.Module:
        whitened_by.append(how.data.whitened_by)
        return trained_network(how, *rest)

    monkeypatch.setattr(membership, "trained_network", trained)
    quick = QUICK | {"shadows": 6, "images": 20, "epoch_eval_train": 2, "num_eval": 1}
    quick |= {"iterations": 1, "batch_real": 4, "zca": True}
    found = membership_of("dm", **quick)
    assert 0 <= found.attacks.auc.mean <= 1
    train = load_data("digits").train
    halves = draw_halves(train.labels, 6, seed=0)
    expected = [Preprocessing.of_whitening(train.images[half]).whitened_by for half in halves]
    assert whitened_by == expected and len({*expected}) == 6


def test_the_command_prints_the_area(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    options = "--shadows 6 --images 20 --epoch-eval-train 1 --network convnet:depth=1:width=4"
    assert main(["membership", "random", *options.split()]) == 0
    assert "area under the curve" in capsys.readouterr().out
    assert (tmp_path / "runs/membership-random/membership.csv").exists()


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("mtt", {}, "mtt matches experts"),
        ("dm", {"experts": "x"}, "takes no experts"),
        ("random", {"shadows": 7}, "`shadows` must be an even number of at least 6, got 7"),
        ("random", {"control": "both"}, "control"),
        ("random", {"images": 1}, "`images` 1 leaves a half without audited images"),
        ("nothing", {}, "unknown method 'nothing': choose from .*random"),
        ("random", {"iterations": 5}, "takes no iterations"),
    ],
)
def test_bad_choices_are_refused(method: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        membership_of(method, progress=False, **options)


def test_a_method_that_cannot_be_loaded_is_in_nobodys_way() -> None:
    METHODS.register("broken", 3)  # type: ignore[arg-type]
    assert "dc" in _auditable() and "broken" not in _auditable()

"""Matching easy real samples alone: which are chosen, and what is matched then."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers import launch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sdc_ext import with_sdc
from sdc_ext.adapters.loops.easy_samples import EasySamples
from sdc_ext.adapters.loops.gradient import GradientMatching, match_by_class
from sdc_ext.adapters.loops.steps import ClassBatch, StepResult
from sdc_ext.cli import main
from sdc_ext.errors import InputError
from sdc_ext.evaluation.difficulty import score_samples
from sdc_ext.matching.distances import squared_error
from sdc_ext.networks.create import create_network
from sdc_ext.sets.history import read_history
from sdc_ext.sets.synthetic_set import SyntheticSet
from sdc_ext.training.gradients import BatchLoss

TINY = [
    *("--network", "convnet:width=8:depth=1", "--batch-real", "8", "--iterations", "3"),
    *("--num-eval", "1", "--epoch-eval-train", "2"),
]


def small_network() -> nn.Module:
    torch.manual_seed(1)
    return create_network("convnet:width=4:depth=1", 1, 3, (8, 8)).double()


def random_images(n: int, seed: int) -> Tensor:
    return torch.randn(n, 1, 8, 8, dtype=torch.float64, generator=torch.manual_seed(seed))


def match(real: Tensor, easy: EasySamples | None) -> StepResult:
    batch = ClassBatch(1, lambda: real, slice(0, 2), lambda images: images)
    return match_by_class(
        small_network(),
        random_images(2, 9),
        [batch],
        with_sdc(squared_error, 0.0),
        batch_loss=BatchLoss(),
        easy=easy,
    )


@settings(max_examples=15, deadline=None)
@given(size=st.integers(1, 9), seed=st.integers(0, 99), quantile=st.floats(0.05, 1))
def test_the_easiest_are_chosen(size: int, seed: int, quantile: float) -> None:
    images, labels = random_images(size, seed), torch.ones(size, dtype=torch.int64)
    norms = score_samples(small_network(), images, labels).gradn
    by_quantile = EasySamples(quantile=quantile)
    index = by_quantile(small_network(), images, labels)
    left = norms[[k for k in range(size) if k not in index.tolist()]]
    assert len(index) >= 1 and (len(left) == 0 or norms[index].max() < left.min())
    assert len(index) == pytest.approx(1 + quantile * (size - 1), abs=1)
    assert (by_quantile.chosen, by_quantile.seen) == (len(index), size)
    tau = float(norms.median())
    chosen = EasySamples(tau)(small_network(), images, labels)
    assert chosen.tolist() == [k for k, norm in enumerate(norms) if norm <= tau]
    both = EasySamples(tau, quantile)(small_network(), images, labels)
    assert set(both.tolist()) == set(index.tolist()) & set(chosen.tolist())


def test_matching_the_easy_ones_is_matching_them_alone() -> None:
    real = random_images(6, 3)
    norms = score_samples(small_network(), real, torch.ones(6, dtype=torch.int64)).gradn
    tau = float(norms.sort().values[3])
    ours, alone = match(real, EasySamples(tau)), match(real[norms <= tau], None)
    torch.testing.assert_close(ours.image_gradient, alone.image_gradient)
    torch.testing.assert_close(ours.loss, alone.loss)
    assert not torch.allclose(ours.loss, match(real, None).loss)


def test_all_are_matched_under_the_whole_quantile() -> None:
    real = random_images(6, 3)
    ours, plain = match(real, EasySamples()), match(real, None)
    assert torch.equal(ours.image_gradient, plain.image_gradient)


def test_the_easiest_is_matched_if_all_are_too_hard() -> None:
    images, labels = random_images(5, 3), torch.ones(5, dtype=torch.int64)
    norms = score_samples(small_network(), images, labels).gradn
    index = EasySamples(1e-9)(small_network(), images, labels)
    assert index.tolist() == [int(norms.argmin())]


@pytest.mark.parametrize("method", ["dc", "dsac"])
def test_runs_record_the_share_that_was_easy(
    method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / method
    arguments = ["distill", method, *TINY, "--tau-quantile", "0.5", "--out", str(out)]
    assert main(arguments) == 0
    shares = read_history(out)["easy_share"]
    assert shares == pytest.approx([0.5] * 3)
    assert str(SyntheticSet.load(out).info.correction) == "lam 0, tau at quantile 0.5"
    assert "50 % of each batch" in capsys.readouterr().out


def test_two_processes_choose_what_one_does(tmp_path: Path) -> None:
    tau = ["--tau", "2.4"]
    for number, name in ((1, "one"), (2, "two")):
        launch(number, tmp_path, "distill", "dc", *TINY, *tau, "--out", name)
    one, two = (SyntheticSet.load(tmp_path / name).images for name in ("one", "two"))
    torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-5)
    shares = [read_history(tmp_path / name)["easy_share"] for name in ("one", "two")]
    assert shares[0] == pytest.approx(shares[1]) and 0 < shares[0][0] < 1


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"tau": -1.0}, "`tau` must be a number from 1e-30 to"),
        ({"tau_quantile": 1.5}, "`tau_quantile` must be a number above 0 and at most 1, got 1.5"),
    ],
)
def test_impossible_thresholds_are_refused(options: dict[str, float], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        GradientMatching(**options)  # type: ignore[arg-type]


def test_samples_are_the_same_in_any_chunks() -> None:
    images, labels = random_images(9, 0), torch.arange(9) % 3
    whole, one_by_one = (EasySamples(quantile=0.5, chunk_size=size) for size in (None, 1))
    network = small_network()
    assert torch.equal(whole(network, images, labels), one_by_one(network, images, labels))

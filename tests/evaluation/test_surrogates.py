"""The surrogates on sets whose discrepancies are known, and their rank correlations."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy import stats

from sdc_ext.data import load_data
from sdc_ext.errors import InputError
from sdc_ext.evaluation.ranking import kendall, rank_correlations, spearman
from sdc_ext.evaluation.surrogates import SURROGATES, Inner, Yardstick, measure_surrogates
from sdc_ext.matching.distances import layerwise_cosine, mean_feature_distance
from sdc_ext.sets import SetInfo, SyntheticSet
from sdc_ext.training import Probe, TrainingRecipe, mean_gradient

DATA = load_data("digits")
PROBE = Probe("convnet:depth=1:width=4", train_epochs=6)


@pytest.fixture(scope="module")
def yardstick() -> Yardstick:
    device = torch.device("cpu")
    return Yardstick.of(DATA, PROBE, Inner(5, 2), max_real=20, seed=0, device=device)


def as_set(images: torch.Tensor, labels: torch.Tensor) -> SyntheticSet:
    return SyntheticSet(images, labels, SetInfo.of_data(DATA, labels, TrainingRecipe(epochs=1)))


def real_set(yardstick: Yardstick, shift: int = 0) -> SyntheticSet:
    """The real images of the yardstick, with labels that are off by a number."""
    labels = [torch.full((len(x),), (k + shift) % 10) for k, x in enumerate(yardstick.real)]
    return as_set(torch.cat(yardstick.real), torch.cat(labels))


def test_the_real_images_themselves_have_no_discrepancy(yardstick: Yardstick) -> None:
    (found,) = measure_surrogates([real_set(yardstick)], yardstick)
    assert tuple(found) == SURROGATES
    for name in SURROGATES:
        if name != "trajectory":
            assert found[name] == pytest.approx(0, abs=1e-4), name
    assert found["trajectory"] < 1  # ends nearer to the target than it began


def test_wrong_labels_and_noise_are_far_in_all_of_them(yardstick: Yardstick) -> None:
    noise = as_set(torch.randn(20, 1, 8, 8), torch.arange(10).repeat(2))
    right, wrong, random = measure_surrogates(
        [real_set(yardstick), real_set(yardstick, shift=1), noise], yardstick
    )
    for name in SURROGATES:
        assert wrong[name] > right[name] and random[name] > right[name], name


def test_a_gradient_discrepancy_is_dcs_distance(yardstick: Yardstick) -> None:
    images, labels = torch.randn(10, 1, 8, 8), torch.arange(10)
    (found,) = measure_surrogates([as_set(images, labels)], yardstick)
    distances, features = [], []
    for network in yardstick.random_networks:
        for k in range(10):
            real = yardstick.real[k]
            gradients = [
                mean_gradient(network, x, torch.full((len(x),), k))
                for x in (images[k : k + 1], real)
            ]
            distances.append(float(layerwise_cosine(*gradients)))
            with torch.no_grad():
                means = [network.features(x).flatten(1).mean(0) for x in (images[k : k + 1], real)]
            features.append(float(mean_feature_distance(*means)))
    assert found["gradient, random"] == pytest.approx(np.mean(distances), rel=1e-4)
    assert found["features, random"] == pytest.approx(np.mean(features), rel=1e-4)


def test_soft_labels_count_by_their_largest(yardstick: Yardstick) -> None:
    images, labels = torch.randn(10, 1, 8, 8), torch.arange(10)
    hard = as_set(images, labels)
    soft = dataclasses.replace(hard, labels=torch.nn.functional.one_hot(labels, 10).float())
    a, b = measure_surrogates([hard, soft], yardstick)
    assert a == pytest.approx(b, rel=1e-4)


def test_a_trajectory_needs_a_segment() -> None:
    with pytest.raises(InputError, match="`train_epochs` 6 leaves no segment of 6 epochs"):
        device = torch.device("cpu")
        Yardstick.of(DATA, PROBE, Inner(5, 6), max_real=20, seed=0, device=device)


def test_correlations_of_ranks() -> None:
    errors = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    measures = {"square": [e**2 for e in errors], "falling": [-e for e in errors]}
    rising, falling = rank_correlations(measures, errors, [1] * 7, draws=50)
    assert (rising.group, rising.sets) == ("all", 7)
    assert rising.spearman == rising.kendall == pytest.approx(1)
    assert rising.spearman_interval == pytest.approx((1, 1))
    assert falling.spearman == falling.kendall == pytest.approx(-1)
    assert not rank_correlations({"square": errors[:5]}, errors[:5], [1] * 5)


def test_correlations_are_scipys() -> None:
    random = np.random.default_rng(0)
    x, y = random.integers(0, 6, (2, 20, 9)).astype(float)  # with ties
    x[0] = 1
    for ours, theirs in ((spearman, stats.spearmanr), (kendall, stats.kendalltau)):
        expected = [theirs(*rows).statistic for rows in zip(x[1:], y[1:], strict=True)]
        np.testing.assert_allclose(ours(x, y)[1:], expected)
        assert np.isnan(ours(x, y)[0])


def test_what_size_alone_explains_does_not_hold_within_a_size() -> None:
    """A measure that knows nothing but the size correlates over all sets."""
    random = np.random.default_rng(0)
    ipc = [1] * 12 + [10] * 12
    errors = np.where(np.array(ipc) == 1, 0.5, 0.2) + 0.05 * random.random(24)
    blind = np.where(np.array(ipc) == 1, 8.0, 4.0) + random.random(24)
    rows = rank_correlations({"blind": blind.tolist()}, errors.tolist(), ipc, draws=200)
    whole, one, ten = rows
    assert [row.group for row in rows] == ["all", "ipc 1", "ipc 10"]
    assert whole.spearman > 0.6 and whole.spearman_interval[0] > 0.3
    for row in (one, ten):
        assert row.sets == 12 and row.spearman_interval[0] < 0 < row.spearman_interval[1]

"""Measuring how close a distilled set is to the real data, relative to random real images.

Images are compared as pixels and as features, over all classes together ("pooled") and class by
class. Both matter: a set with shuffled labels is close when pooled and far class by class.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from einops import rearrange
from torch import Tensor, nn

from sdc_ext._seeds import seed_torch
from sdc_ext.data.real import RealData
from sdc_ext.errors import InputError, check_choice
from sdc_ext.evaluation.discrepancies import Discrepancy
from sdc_ext.evaluation.selection import pick_at_random, random_like
from sdc_ext.networks.create import create_network
from sdc_ext.networks.features import features_of
from sdc_ext.sets.synthetic_set import SyntheticSet
from sdc_ext.training.epochs import normalized_batches
from sdc_ext.training.probe import Probe, train_probe

SPACES = ("pixels", "random", "trained")

POOLED = "pooled"


# How many random networks the discrepancies are averaged over; a single one would be arbitrary.
RANDOM_NETWORKS = 5


FeatureMap = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Closeness:
    """One discrepancy of one set to the real data, in one space.

    Attributes:
        space: ``"pixels"``, or the features of ``"random"`` or ``"trained"`` networks.
        measure: The name of the discrepancy.
        images: The name of the class, or ``"pooled"`` for all classes together.
        real: The number of real images in the reference.
        synthetic: The number of images of the set.
        value: The discrepancy of the set.
        random: The discrepancies of random real images, one per draw; each draw has as many
            images per class as the set.
        is_pooled: Whether it covers all classes together; a class may have that name, too.
    """

    space: str
    measure: str
    images: str
    real: int
    synthetic: int
    value: float
    random: tuple[float, ...]
    is_pooled: bool = False

    @property
    def random_mean(self) -> float:
        """The mean discrepancy of random real images over the draws."""
        return statistics.fmean(self.random)

    @property
    def random_std(self) -> float:
        """The sample standard deviation of ``random`` over the draws."""
        return statistics.stdev(self.random)

    @property
    def ratio(self) -> float:
        """``D(real, set) / mean D(real, random)``; NaN if the denominator is 0."""
        return self.value / self.random_mean if self.random_mean > 0 else math.nan

    @property
    def noise(self) -> float:
        """The standard deviation of the ratio for random real images; NaN if their mean is 0."""
        return self.random_std / self.random_mean if self.random_mean > 0 else math.nan


def feature_maps(
    spaces: Sequence[str],
    data: RealData,
    probe: Probe,
    *,
    seed: int,
    device: torch.device,
    on_epoch: Callable[[], object] = lambda: None,
) -> dict[str, list[FeatureMap]]:
    """Returns the maps from images to points, by the name of the space.

    Each map takes normalised images (N, C, H, W) to points (N, D), and discrepancies are averaged
    over the maps of a space. ``"pixels"`` has one map, which flattens the images. ``"random"`` has
    five, the penultimate features of random networks. ``"trained"`` has one, the penultimate
    features of a network trained on the real training images. Networks are in evaluation mode.

    Args:
        spaces: Any of ``"pixels"``, ``"random"`` and ``"trained"``.
        data: The real data, normalised as the sets are.
        probe: The architecture, and the training for ``"trained"``.
        seed: Seeds the networks.
        device: The device of the networks.
        on_epoch: Called after every epoch of training.

    Raises:
        InputError: If a space is unknown, or the network has no linear layer.
    """
    maps: dict[str, list[FeatureMap]] = {}
    for space in spaces:
        check_choice("space", space, SPACES)
        if space == "pixels":
            maps[space] = [lambda images: images.flatten(1)]
        elif space == "random":
            networks = fresh_networks(data, probe.network, seed)
            maps[space] = [partial(features_of, network.to(device)) for network in networks]
        else:
            batches = normalized_batches(data, data.train, device)
            trained = train_probe(
                data, probe, batches, seed=seed, device=device, on_epoch=lambda _: on_epoch()
            )
            maps[space] = [partial(features_of, trained.to(device))]
    return maps


def compare_with_real(
    synthetic: SyntheticSet,
    data: RealData,
    maps: Mapping[str, Sequence[FeatureMap]],
    measures: Mapping[str, Discrepancy],
    *,
    draws: int,
    seed: int,
    max_real: int,
    on_group: Callable[[], object] = lambda: None,
) -> list[Closeness]:
    """Measures the discrepancies between a set and the real training images.

    The same is measured for random real images, which gives the scale. The reference is the
    training images of a class or of all classes, of which at most ``max_real`` random ones are
    used. The random images are drawn from all training images and stay in the reference, because
    distillation methods have also seen these images and may have copied them.

    Args:
        synthetic: The set; a class without images in it has no row.
        data: The real data, normalised as the set is.
        maps: The maps from [`feature_maps`][sdc_ext.evaluation.feature_maps].
        measures: The discrepancies by name, from
            [`choose_discrepancies`][sdc_ext.evaluation.choose_discrepancies].
        draws: The number of random sets, at least 2.
        seed: Seeds the draws and the choice of the reference.
        max_real: The largest number of real images in a reference.
        on_group: Called after the pooled images and after each class.

    Returns:
        One row per class, space and measure; the rows of the pooled images come first.

    Raises:
        InputError: If ``draws`` or ``max_real`` is too low, or a class has more images in the set
            than training images.

    Reference: Selvan and Chen, "A Discrepancy-Based Perspective on Dataset Condensation" (2025).
    """
    check_sizes(draws, max_real)
    rows = []
    groups = _groups(synthetic, data, draws, seed, max_real)
    for k, (name, reference, sets) in enumerate(groups):
        for space, of_space in maps.items():
            for measure, values in _mean_values(of_space, measures, reference, sets).items():
                sizes = len(reference), sets.shape[1]
                found = values[0], tuple(values[1:])
                rows.append(Closeness(space, measure, name, *sizes, *found, is_pooled=k == 0))
        on_group()
    return rows


def check_sizes(draws: int, max_real: int) -> None:
    """Raises InputError if there are fewer than two draws, or no real images."""
    if draws < 2:
        raise InputError(
            f"`draws` must be at least 2 for a standard deviation, got {draws}: raise it"
        )
    if max_real < 1:
        raise InputError(f"`max_real` must be at least 1, got {max_real}: raise it")


def _groups(
    synthetic: SyntheticSet, data: RealData, draws: int, seed: int, max_real: int
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yields name, real images (n, C, H, W) and sets (1 + draws, m, C, H, W), the set first.

    All classes together come first.
    """
    labels, order = synthetic.hard_labels.sort(stable=True)  # draws are sorted by class, too
    images = synthetic.images[order]
    chosen = torch.stack([random_like(labels, data, seed, k + 1) for k in range(draws)])
    everything = torch.ones_like(labels, dtype=torch.bool)
    groups = [(POOLED, everything, torch.arange(len(data.train)))]
    for c, index in enumerate(data.indices_by_class()):
        groups.append((data.classes[c], labels == c, index))
    for k, (name, ours, index) in enumerate(groups):
        if ours.any():
            seed_torch(seed, "reference", k)
            reference = data.train.images[pick_at_random(index, max_real)]
            drawn = data.normalize(data.train.images[chosen[:, ours].flatten()])
            sets = rearrange(torch.cat([images[ours], drawn]), "(s m) ... -> s m ...", s=1 + draws)
            yield name, data.normalize(reference), sets


def _mean_values(
    maps: Sequence[FeatureMap],
    measures: Mapping[str, Discrepancy],
    reference: Tensor,
    sets: Tensor,
) -> dict[str, list[float]]:
    """Returns each measure for each set, averaged over the maps."""
    totals = {name: torch.zeros(len(sets), dtype=torch.float64) for name in measures}
    for points in maps:
        real = points(reference)
        others = rearrange(points(sets.flatten(0, 1)), "(s m) d -> s m d", s=len(sets))
        for name, measure in measures.items():
            totals[name] += measure(real, others)
    return {name: (total / len(maps)).tolist() for name, total in totals.items()}


def fresh_networks(data: RealData, network: str, seed: int) -> Iterator[nn.Module]:
    """Yields the random networks that sets are compared with, the same for the same seed."""
    for k in range(RANDOM_NETWORKS):
        seed_torch(seed, "random features", k)
        yield create_network(network, *data.network_shape)

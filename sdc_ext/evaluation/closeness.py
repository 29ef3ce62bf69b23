"""How close a distilled set is to the real data, beside random real images.

Images are compared as pixels and as features, of all classes together ("pooled") and class by
class: sets whose labels are shuffled are close together and far class by class.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn

from sdc_ext._seeds import seed_torch
from sdc_ext.data.real import RealData
from sdc_ext.errors import InputError, check_choice
from sdc_ext.evaluation.discrepancies import Discrepancy
from sdc_ext.evaluation.selection import pick_at_random, random_like
from sdc_ext.networks.chunks import default_chunk_size
from sdc_ext.networks.create import create_network
from sdc_ext.networks.features import take_features
from sdc_ext.sets.synthetic_set import SyntheticSet
from sdc_ext.training.epochs import normalized_batches
from sdc_ext.training.probe import Probe, train_probe

SPACES = ("pixels", "random", "trained")

POOLED = "pooled"


# Fresh networks whose discrepancies are averaged, since one alone sees what it happens to.
RANDOM_NETWORKS = 5


# Images at once away from CPUs.
_AT_ONCE = 1024


FeatureMap = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Closeness:
    """One discrepancy of one set, in one space.

    Attributes:
        space: one of ``SPACES``.
        measure: the discrepancy's name.
        images: the class's name, or ``POOLED``.
        real: real images in the reference.
        synthetic: images of the set.
        value: discrepancy of the set.
        random: those of random real images, of each class as many as the set has.
    """

    space: str
    measure: str
    images: str
    real: int
    synthetic: int
    value: float
    random: tuple[float, ...]

    @property
    def is_pooled(self) -> bool:
        """Whether it is of all classes together."""
        return self.images == POOLED

    @property
    def random_mean(self) -> float:
        return statistics.fmean(self.random)

    @property
    def random_std(self) -> float:
        """Sample standard deviation over the draws."""
        return statistics.stdev(self.random)

    @property
    def ratio(self) -> float:
        """``D(real, set) / mean D(real, random)``; NaN where random images are no way off."""
        return self.value / self.random_mean if self.random_mean > 0 else math.nan

    @property
    def noise(self) -> float:
        """Standard deviation of the ratios of random images."""
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
    """What takes normalised images (N, C, H, W) to points (N, D), by the name of the space.

    Discrepancies are averaged over the maps of a space: ``pixels`` has one, ``random`` the
    penultimate features of five fresh networks, ``trained`` those of a network trained on the
    real training images. Networks are in evaluation mode.

    Args:
        spaces: of ``SPACES``.
        data: the real data, normalised as the sets are.
        probe: the network and how it is trained.
        seed: of the networks.
        device: where they are.
        on_epoch: called after every epoch of training.

    Raises:
        InputError: for a space that is none, or a network without a linear layer.
    """
    maps: dict[str, list[FeatureMap]] = {}
    for space in spaces:
        check_choice("space", space, SPACES)
        if space == "pixels":
            maps[space] = [lambda images: images.flatten(1)]
        elif space == "random":
            maps[space] = [_features_of(n, device) for n in _fresh(data, probe.network, seed)]
        else:
            batches = normalized_batches(data, data.train, device)
            trained = train_probe(
                *(data, probe, batches),
                seed=seed,
                device=device,
                on_epoch=lambda _: on_epoch(),
            )
            maps[space] = [_features_of(trained, device)]
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
    """Every discrepancy of a set to the real training images, beside random ones.

    The reference is the training images, or ``max_real`` random ones of them (of each class, and
    of all). Random images are drawn from all of the training images and not taken out of the
    reference: the methods have seen these images, too, and may have copied them.

    Args:
        synthetic: the set; classes that it has no images of have no row.
        data: the real data, normalised as the set is.
        maps: from [`feature_maps`][sdc_ext.evaluation.feature_maps].
        measures: discrepancies by name.
        draws: how many random sets, at least 2.
        seed: of the draws and the reference.
        max_real: real images of a reference at most.
        on_group: called after the pooled images and after each class.

    Raises:
        InputError: if ``draws`` or ``max_real`` is too low, or a class has more images in the
            set than in the training images.
    """
    check_sizes(draws, max_real)
    rows = []
    for name, reference, sets in _groups(synthetic, data, draws, seed, max_real):
        for space, of_space in maps.items():
            for measure, values in _mean_values(of_space, measures, reference, sets).items():
                sizes = len(reference), sets.shape[1]
                rows.append(Closeness(space, measure, name, *sizes, values[0], (*values[1:],)))
        on_group()
    return rows


def check_sizes(draws: int, max_real: int) -> None:
    """Raises InputError for fewer than two draws or no real images."""
    if draws < 2:
        raise InputError(f"draws must be at least 2 to have a spread, got {draws}")
    if max_real < 1:
        raise InputError(f"max_real must be at least 1, got {max_real}")


def _groups(
    synthetic: SyntheticSet, data: RealData, draws: int, seed: int, max_real: int
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Name, real images (n, C, H, W) and sets of images (1 + draws, m, C, H, W), the set first."""
    labels, order = synthetic.hard_labels.sort(stable=True)  # as those of a draw are
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
    """Each measure of each set, averaged over the maps."""
    totals = {name: torch.zeros(len(sets), dtype=torch.float64) for name in measures}
    for points in maps:
        real = points(reference)
        others = rearrange(points(sets.flatten(0, 1)), "(s m) d -> s m d", s=len(sets))
        for name, measure in measures.items():
            totals[name] += measure(real, others)
    return {name: (total / len(maps)).tolist() for name, total in totals.items()}


def _fresh(data: RealData, network: str, seed: int) -> Iterator[nn.Module]:
    for k in range(RANDOM_NETWORKS):
        seed_torch(seed, "random features", k)
        yield create_network(network, *data.network_shape)


def _features_of(network: nn.Module, device: torch.device) -> FeatureMap:
    network.to(device)

    def points(images: Tensor) -> Tensor:
        size = default_chunk_size(images[:_AT_ONCE].to(device))
        return take_features(network, (x.to(device) for x in torch.split(images, size))).flatten(1)

    return points

"""Two families of sets side by side: how well each serves the worst of M configurations.

One family may be distilled for one network and the other for a pool of networks. Both are evaluated
on the same configurations, and sets that were distilled with the same seed are paired.

For every set, one half of the evaluated networks chooses the worst configurations, and their gaps
are read off the other half, as the plain worst of M noisy gaps is too large; see ``coverage``. With
one network per set and configuration, the plain worst is read, whose excess the difference of two
families has to the extent that their configurations differ unequally. The intervals concern the
seeds of the distillation, with the configurations held fixed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sdc_ext._values import Count, Seed, checked
from sdc_ext.errors import InputError
from sdc_ext.evaluation.intervals import TAILS, Array, Interval
from sdc_ext.evaluation.paired import PairedDifference
from sdc_ext.theory.accuracies import Family, Quantity, Series, shared_sets
from sdc_ext.theory.coverage import MODE, counts_up_to, shared_quantity, subset_weights
from sdc_ext.theory.fitting import finite
from sdc_ext.theory.required import Required, Target, middle, required_sizes

_LEAST_PAIRS = 3
_LEAST_CONFIGURATIONS = 2
_DRAWS = 200


@dataclass(frozen=True)
class Difference:
    """A difference between the two families, the first minus the second.

    Attributes:
        mean: Its mean over the pairs.
        interval: Student's 95 % interval of the mean.
    """

    mean: float
    interval: Interval


@dataclass(frozen=True)
class SideBySide:
    """Two families of sets on the same configurations.

    Attributes:
        families: The two families.
        quantity: The quantity whose largest value is the worst; see
            [`Series`][sdc_ext.theory.Series].
        configurations: The configurations that both families share.
        sizes: The numbers of images with enough pairs, ascending.
        pairs: The number of pairs per size.
        counts: The values of M, ascending.
        worst: The quantity for the worst of M, per family, M and size, a mean over the pairs.
        differences: The first family's worst of M minus the second's, per M and size; above 0,
            the second family serves the worst configuration better.
        target: The gap or error for which the required size is read.
        required: The size that the target requires, per family and M.
        intervals: The 95 % intervals of these sizes by a bootstrap over the pairs, per family and
            M. A bound at the smallest or largest measured size stands for that size or beyond.
    """

    families: tuple[Family, Family]
    quantity: Quantity
    configurations: tuple[str, ...]
    sizes: tuple[int, ...]
    pairs: tuple[int, ...]
    counts: tuple[int, ...]
    worst: tuple[tuple[tuple[float, ...], ...], ...]
    differences: tuple[tuple[Difference, ...], ...]
    target: float
    required: tuple[tuple[Required, ...], ...]
    intervals: tuple[tuple[Interval, ...], ...]

    def summary(self) -> dict[str, Any]:
        """Returns all fields as content for JSON; None stands for infinity."""
        return dict(finite({"mode": MODE, **asdict(self)}))


@checked
def compare_coverage(
    first: Sequence[Series],
    second: Sequence[Series],
    target: Target | None = None,
    seed: Seed = 0,
    draws: Count = _DRAWS,
) -> SideBySide:
    """Compares how well two families of sets serve the worst of M configurations.

    Args:
        first: The series of one family, one per configuration.
        second: The series of the other family.
        target: The gap or error to reach, as a fraction. The default lies halfway between the
            highest value at the largest size and the lowest value at the smallest size.
        seed: Seeds the bootstrap.
        draws: The number of bootstrap draws.

    Raises:
        InputError: If a value is out of range, or if the families share fewer than 2
            configurations, or no size has 3 pairs that all of these share.
    """
    if not (first and second):
        raise InputError("a comparison needs two families, each with at least one series")
    quantity = shared_quantity([*first, *second])
    names, measured = _paired(first, second)
    counts = counts_up_to(len(names))
    weights = subset_weights(len(names), counts)
    # (families, pairs, counts) per size
    worst = {size: _ranked(values) @ weights.T for size, values in measured.items()}
    sizes = np.array(list(worst), float)
    means = np.stack([values.mean(1) for values in worst.values()], -1)
    if target is None:
        target = middle(means)
    required = [required_sizes(sizes, counts, of_family, target) for of_family in means]
    return SideBySide(
        families=(first[0].family, second[0].family),
        quantity=quantity,
        configurations=names,
        sizes=tuple(worst),
        pairs=tuple(values.shape[1] for values in worst.values()),
        counts=counts,
        worst=tuple(tuple(tuple(row) for row in of_family) for of_family in means.tolist()),
        differences=tuple(
            tuple(_difference(values[0, :, k] - values[1, :, k]) for values in worst.values())
            for k in range(len(counts))
        ),
        target=target,
        required=tuple(required),
        intervals=_size_intervals(worst, counts, target, np.random.default_rng(seed), draws),
    )


def _paired(
    first: Sequence[Series], second: Sequence[Series]
) -> tuple[tuple[str, ...], dict[int, Array]]:
    """Returns the shared configurations and, by size, the values.

    The values are (families, configurations, pairs, halves).

    Raises:
        InputError: If there are too few of either.
    """
    by_name = [{s.configuration: s for s in of_family} for of_family in (first, second)]
    names = tuple(name for name in by_name[0] if name in by_name[1])
    which = f"{first[0].family} and {second[0].family}"
    if len(names) < _LEAST_CONFIGURATIONS:
        raise InputError(
            f"{which} share {len(names)} of the {_LEAST_CONFIGURATIONS} configurations that a "
            "comparison needs: evaluate both on the same networks"
        )
    series = [[of_family[name] for name in names] for of_family in by_name]
    shared = shared_sets([one for row in series for one in row], fewest=_LEAST_PAIRS)
    measured = {
        size: np.array([[[_halves(one, size, r) for r in pairs] for one in row] for row in series])
        for size, pairs in shared.items()
    }
    if not measured:
        raise InputError(
            f"{which} have no size with {_LEAST_PAIRS} pairs of sets that were distilled with the "
            "same seed: distil both with the same 3 seeds or more"
        )
    return names, measured


def _halves(series: Series, size: int, replicate: str) -> tuple[float, float]:
    whole = series.values[size][replicate]
    return series.halves.get(size, {}).get(replicate, (whole, whole))


def _ranked(values: Array) -> Array:
    """Returns the values of each set, sorted by one half of the networks and read off the other.

    Args:
        values: The values (families, configurations, pairs, halves).

    Returns:
        Values by rank (families, pairs, configurations), the best first.
    """
    order = values.argsort(1, kind="stable")
    read = np.take_along_axis(values[..., ::-1], order, 1).mean(-1)
    return np.asarray(read.swapaxes(1, 2))


def _difference(values: Array) -> Difference:
    paired = PairedDifference(tuple(values.tolist()))
    return Difference(paired.mean, paired.t_interval)


def _size_intervals(
    worst: dict[int, Array],
    counts: Sequence[int],
    target: float,
    random: np.random.Generator,
    draws: int,
) -> tuple[tuple[Interval, ...], ...]:
    """Returns the intervals of the required sizes, per family and M."""
    sizes = np.array(list(worst), float)
    found = np.empty((draws, 2, len(counts)))
    for draw in range(draws):
        # Sets of different sizes are no pairs, so each size is drawn by itself.
        means = []
        for values in worst.values():
            pairs = values.shape[1]
            means.append(values[:, random.integers(pairs, size=pairs)].mean(1))
        for k, of_family in enumerate(np.stack(means, -1)):
            found[draw, k] = [
                one.images for one in required_sizes(sizes, counts, of_family, target)
            ]
    low, high = np.quantile(found, TAILS, axis=0)
    return tuple(
        tuple((float(a), float(b)) for a, b in zip(*bounds, strict=True))
        for bounds in zip(low, high, strict=True)
    )

"""How well measures of sets rank them as their accuracies do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from sdc_ext.evaluation.intervals import TAILS, Array, Interval

# Fewer sets have intervals that exclude nothing.
LEAST_SETS = 6

_DRAWS = 1000


@dataclass(frozen=True)
class RankCorrelation:
    """The rank correlation of a measure with the error over some sets.

    Attributes:
        measure: The name of the measure.
        group: The sets: ``"all"``, or those of one number of images per class.
        sets: The number of sets.
        spearman: Spearman's correlation; 1 if the measure ranks the sets as the error does.
        spearman_interval: Its 95 % interval by a bootstrap over the sets.
        kendall: Kendall's tau-b.
        kendall_interval: Its 95 % interval.
    """

    measure: str
    group: str
    sets: int
    spearman: float
    spearman_interval: Interval
    kendall: float
    kendall_interval: Interval


def rank_correlations(
    measures: Mapping[str, Sequence[float]],
    errors: Sequence[float],
    ipc: Sequence[int],
    *,
    seed: int = 0,
    draws: int = _DRAWS,
) -> list[RankCorrelation]:
    """Returns the rank correlations of measures with the error.

    Over all sets, a measure correlates with the error if both fall with the number of images,
    whatever it says about sets of the same size. If the sets have several sizes, the correlations
    are therefore also computed within each of them.

    Args:
        measures: The values of each measure, one per set.
        errors: The error of each set, or its gap to all real images.
        ipc: The number of images per class of each set.
        seed: Seeds the bootstrap.
        draws: The number of bootstrap draws.

    Returns:
        One row per group of at least 6 sets and measure; none if there are fewer sets.
    """
    sizes = sorted(set(ipc))
    groups = {"all": np.arange(len(errors))}
    if len(sizes) > 1:
        groups |= {f"ipc {n}": np.flatnonzero(np.array(ipc) == n) for n in sizes}
    return [
        _correlation(name, group, np.array(values)[index], np.array(errors)[index], seed, draws)
        for group, index in groups.items()
        if len(index) >= LEAST_SETS
        for name, values in measures.items()
    ]


def _correlation(
    measure: str,
    group: str,
    values: Array,
    errors: Array,
    seed: int,
    draws: int,
) -> RankCorrelation:
    count = len(values)
    # All measures and groups of this size share their draws.
    drawn = np.random.default_rng(seed).integers(count, size=(draws, count))
    rows = np.vstack([np.arange(count), drawn])
    found = np.stack([spearman(values[rows], errors[rows]), kendall(values[rows], errors[rows])])
    # A draw of equal values has no correlation.
    low, high = np.nanquantile(found[:, 1:], TAILS, axis=1)
    intervals = [(float(a), float(b)) for a, b in zip(low, high, strict=True)]
    return RankCorrelation(
        measure,
        group,
        sets=count,
        spearman=float(found[0, 0]),
        spearman_interval=intervals[0],
        kendall=float(found[1, 0]),
        kendall_interval=intervals[1],
    )


def spearman(x: Array, y: Array) -> Array:
    """Returns Spearman's correlation of each row (rows, n): that of the ranks."""
    ranks = [stats.rankdata(values, axis=1) for values in (x, y)]
    return _correlations(*(values - values.mean(1, keepdims=True) for values in ranks))


def kendall(x: Array, y: Array) -> Array:
    """Returns Kendall's tau-b of each row (rows, n): that of the signs of all differences."""
    ranks = [stats.rankdata(values, axis=1) for values in (x, y)]  # infinity has no differences
    signs = [np.sign(values[:, :, None] - values[:, None]) for values in ranks]
    return _correlations(*(values.reshape(len(values), -1) for values in signs))


def _correlations(a: Array, b: Array) -> Array:
    """Returns the correlation of each row; NaN if one of the two is constant."""
    with np.errstate(invalid="ignore"):
        return np.asarray((a * b).sum(1) / np.sqrt((a**2).sum(1) * (b**2).sum(1)))

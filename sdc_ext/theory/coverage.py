"""The coverage law: how large a distilled set must be to serve the worst of M configurations.

The law is ``B + A sqrt((1 + h ln M) k0 / k)`` in the number of images k, where k0 is the geometric
mean of the measured sizes. Under it, the size that a target requires grows with ln M, the entropy
of the uniform distribution over M configurations. It is compared with laws in which the required
size does not grow, in which it grows with M itself, and in which only the floor grows.

The largest of M noisy gaps exceeds the true worst gap by up to two standard errors, and this excess
grows with M much as the law does. The worst configuration is therefore chosen on one half of the
replicates, and its gap is measured on the other half. The noise of a network's accuracy on all real
images is common to both halves, so gaps need many networks trained on all real images.

Reference: Luo and Xu, Utility Boundary of Dataset Distillation (arXiv 2512.05817).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import comb

from sdc_ext._values import Count, Seed, checked
from sdc_ext.errors import InputError
from sdc_ext.evaluation.intervals import Array, Interval, t_quantile
from sdc_ext.theory.accuracies import Family, Quantity, Series, shared_sets
from sdc_ext.theory.fitting import Profile, corrected_aic, finite, fit
from sdc_ext.theory.required import Required, Target, Trend, middle, required_sizes, trend

FormName: TypeAlias = Literal["log", "constant", "linear", "floor"]

MODE = "one set on M configurations"
_COUNTS = (1, 2, 4, 8, 16)
_LEAST_CONFIGURATIONS, _LEAST_SIZES = 4, 3
_SPLITS = 20
_DRAWS = 1000
# Candidates for h ln M at the largest M, in steps of 3 % and of 0.0006 near 0. Some are negative,
# since noise may push the best fit below 0.
_GROWTHS = 0.02 * np.sinh(np.linspace(-np.arcsinh(45), np.arcsinh(3000), 440))


@dataclass(frozen=True)
class Form:
    """One fitted law.

    Attributes:
        parameters: A (at k0 images), B, and h or the slope of the floor, by name.
        aicc: Akaike's information criterion, corrected for few points, with an estimated variance
            of the residuals.
        rms: The root mean squared residual.
    """

    parameters: dict[str, float]
    aicc: float
    rms: float


@dataclass(frozen=True)
class Coverage:
    """The coverage law of one family of sets.

    Attributes:
        family: The family of the sets.
        quantity: The quantity whose largest value is the worst; see
            [`Series`][sdc_ext.theory.Series].
        configurations: The configurations on which the sets were evaluated.
        sizes: The numbers of images that all configurations share, ascending.
        replicates: The number of replicates per size that all configurations share.
        counts: The values of M, ascending.
        worst: The quantity for the worst of M configurations, averaged over all choices of M; one
            row per M, one column per size.
        forms: The fitted laws: with ln M, constant, linear in M, and with a growing floor.
        growth: The 95 % interval of h in the law with ln M, by a bootstrap over configurations
            with fresh noise.
        target: The gap or error for which the required size is read.
        required: The size that the target requires, one per M.
        trends: Straight lines through the required sizes over ``"ln M"`` and ``"M"``; None if
            fewer than 3 sizes are uncensored.
    """

    family: Family
    quantity: Quantity
    configurations: tuple[str, ...]
    sizes: tuple[int, ...]
    replicates: tuple[int, ...]
    counts: tuple[int, ...]
    worst: tuple[tuple[float, ...], ...]
    forms: dict[FormName, Form]
    growth: Interval
    target: float
    required: tuple[Required, ...]
    trends: dict[str, Trend | None]

    @property
    def best(self) -> FormName:
        """The law with the lowest AICc."""
        return min(self.forms, key=lambda name: self.forms[name].aicc)

    @property
    def claimed(self) -> bool:
        """Whether the law with ln M fits best and the interval of its h lies above 0."""
        return self.best == "log" and self.growth[0] > 0

    def predicted(self, sizes: Array, count: int) -> Array:
        """Returns what the law with ln M predicts for the worst of ``count`` at these sizes."""
        a, b, h = (self.forms["log"].parameters[name] for name in "ABh")
        center = np.exp(np.log(self.sizes).mean())
        return np.asarray(b + a * np.sqrt((1 + h * np.log(count)) * center / sizes))

    def summary(self) -> dict[str, Any]:
        """Returns all fields and conclusions as content for JSON; None stands for infinity."""
        return dict(
            finite({"mode": MODE, **asdict(self), "best": self.best, "claimed": self.claimed})
        )


@checked
def fit_coverage(
    series: Sequence[Series], target: Target | None = None, seed: Seed = 0, draws: Count = _DRAWS
) -> Coverage:
    """Fits the coverage laws to a family of sets.

    Args:
        series: The series of one family, one per configuration, at least 4.
        target: The gap or error to reach, as a fraction. The default lies halfway between the
            highest value at the largest size and the lowest value at the smallest size.
        seed: Seeds the splits into halves and the bootstrap.
        draws: The number of bootstrap draws.

    Raises:
        InputError: If a value is out of range, or if there are fewer than 4 configurations, or
            fewer than 3 sizes with at least 2 replicates that all of them share.

    Reference: Luo and Xu, Utility Boundary of Dataset Distillation (arXiv 2512.05817).
    """
    if len(series) < _LEAST_CONFIGURATIONS:
        whose = f"{series[0].family}: " if series else ""
        raise InputError(
            f"{whose}a coverage law needs at least {_LEAST_CONFIGURATIONS} configurations, got "
            f"{len(series)}: evaluate the sets on more networks"
        )
    family, quantity = series[0].family, shared_quantity(series)
    measured = _measured(series)
    random = np.random.default_rng(seed)
    n = len(series)
    counts = counts_up_to(n)
    chosen = np.vstack([np.arange(n), np.sort(random.integers(n, size=(draws, n)), axis=1)])
    ranked = _rankings(list(measured.values()), chosen, random)
    worst = ranked @ subset_weights(n, counts).T
    sizes, mean = np.array(list(measured), float), worst[0]
    growths = _growths(sizes, counts, worst)
    target = middle(mean.T) if target is None else target
    required = required_sizes(sizes, counts, mean.T, target)
    return Coverage(
        family=family,
        quantity=quantity,
        configurations=tuple(s.configuration for s in series),
        sizes=tuple(measured),
        replicates=tuple(values.shape[1] for values in measured.values()),
        counts=counts,
        worst=tuple(tuple(row) for row in mean.T.tolist()),
        forms=_forms(sizes, counts, mean),
        growth=_growth_interval(growths, counts[-1], n),
        target=target,
        required=required,
        trends={"ln M": trend(required, np.log), "M": trend(required, np.asarray)},
    )


def counts_up_to(configurations: int) -> tuple[int, ...]:
    """Returns the values of M for a number of configurations."""
    return tuple(m for m in _COUNTS if m <= configurations)


def shared_quantity(series: Sequence[Series]) -> Quantity:
    """Returns what all series measure.

    Raises:
        InputError: If some measure the gap, and others the error.
    """
    if len({s.quantity for s in series}) > 1:
        odd = next(s for s in series if s.quantity == "error")
        raise InputError(
            f"{odd} has no networks trained on all real images, unlike other configurations: "
            "evaluate all real images for every network, or for none"
        )
    return series[0].quantity


def _measured(series: Sequence[Series]) -> dict[int, Array]:
    """Returns by size the values that all configurations share: (configurations, replicates)."""
    measured = {
        size: np.array([[s.values[size][r] for r in shared] for s in series])
        for size, shared in shared_sets(series, fewest=2).items()
    }
    if len(measured) < _LEAST_SIZES:
        raise InputError(
            f"{series[0].family}: a coverage law needs at least {_LEAST_SIZES} sizes with 2 or "
            f"more sets that all {len(series)} configurations share, got {len(measured)}: "
            "evaluate the same sets on all networks"
        )
    return measured


def _rankings(
    measured: Sequence[Array], chosen: NDArray[np.int64], random: np.random.Generator
) -> Array:
    """Returns the values of the configurations, sorted from best to worst without selection bias.

    One half of the replicates determines the order, and the values come from the other half.

    Args:
        measured: Per size, the values (configurations, replicates).
        chosen: The configurations of each draw (draws, configurations). The first draw has every
            configuration once; all others are bootstrap resamples.
        random: Draws the halves, and the noise of the resamples.

    Returns:
        Values by rank (draws, sizes, configurations), averaged over the splits into halves.
    """
    ranked = np.zeros((len(chosen), len(measured), chosen.shape[1]))
    for place, values in enumerate(measured):
        noisy = values[chosen]
        # In the bootstrap, the measured values stand for the true ones, so every resample is
        # measured anew with noise of its own. This also separates the copies of a configuration
        # that a resample contains twice, which would otherwise be tied.
        noisy[1:] += _noise(values) * random.standard_normal(noisy[1:].shape)
        for _ in range(_SPLITS):
            halves = np.array_split(random.permutation(values.shape[1]), 2)
            first, second = (noisy[:, :, half].mean(2) for half in halves)
            # Sorted by its own noisy means, a half would have its last ranks too large and its
            # first too small (the winner's curse), and the worst of M would be off by the more,
            # the larger M is. The noise of the other half is independent of this order, so its
            # mean at each rank has no such bias. Each half serves in both roles, and many random
            # splits average out the luck of a single one.
            for judge, read in ((first, second), (second, first)):
                order = judge.argsort(1, kind="stable")
                ranked[:, place] += np.take_along_axis(read, order, 1) / (2 * _SPLITS)
    return ranked


def _noise(values: Array) -> float:
    """Returns the standard deviation that neither configuration nor replicate explains.

    This is the residual of a two-way analysis of variance without interaction. The quality of a
    single distilled set affects all configurations alike and does not disturb their order, so it
    does not count as noise.
    """
    rest = values - values.mean(1, keepdims=True) - values.mean(0) + values.mean()
    freedom = (values.shape[0] - 1) * (values.shape[1] - 1)
    return float(np.sqrt((rest**2).sum() / freedom))


def subset_weights(n: int, counts: Sequence[int]) -> Array:
    """Returns the share of subsets of M in which each rank is the worst: (counts, n)."""
    ranks = np.arange(1, n + 1)
    # Rank r is the worst of a subset if the other M - 1 come from the r - 1 ranks before it. These
    # weights average over all subsets without drawing any.
    below = np.array([[comb(r - 1, m - 1, exact=True) for r in ranks] for m in counts], float)
    return np.asarray(below / below.sum(1, keepdims=True))


def _growth_interval(growths: Array, most: int, configurations: int) -> Interval:
    """Returns Student's interval of the first h, with the spread of the bootstrapped ones.

    The interval is computed for ln(1 + h ln M) at the largest M, which is closer to normal than h.
    Percentiles of the bootstrap would be biased, because drawing a configuration twice does not
    make the worst of a subset worse. With 8 to 32 configurations, the interval covers the true h in
    92 % of cases at h = 0.8, and nearly always at h = 0.
    """
    grown = np.log1p(growths * np.log(most))
    spread = grown[1:].std() * (configurations / (configurations - 1)) ** 0.5
    half = t_quantile(configurations - 1) * spread
    low, high = np.expm1([grown[0] - half, grown[0] + half]) / np.log(most)
    return float(low), float(high)


def _grid(sizes: Array, counts: Sequence[int]) -> tuple[Array, Array]:
    """Returns the root of k0 / k, and M, at all points (sizes * counts,), sizes first."""
    root = np.exp(np.log(sizes).mean() / 2) / np.sqrt(sizes)
    return np.repeat(root, len(counts)), np.tile(np.array(counts, float), len(sizes))


def _growths(sizes: Array, counts: Sequence[int], worst: Array) -> Array:
    """Returns h of the law with ln M (draws,) for many draws of the worst (sizes, counts)."""
    root, m = _grid(sizes, counts)
    candidates = _GROWTHS / np.log(counts[-1])
    shapes = root * np.sqrt(1 + candidates[:, None] * np.log(m))
    values = worst.reshape(len(worst), -1)
    found = Profile.of(shapes, values, np.eye(len(root)), with_floor=True)
    return np.asarray(candidates[found.chosen])


def _forms(sizes: Array, counts: Sequence[int], worst: Array) -> dict[FormName, Form]:
    root, m = _grid(sizes, counts)
    log, values = np.log(m), worst.ravel()
    near = float(_growths(sizes, counts, worst[None])[0])

    def grown(h: float, diversity: Array) -> Array:
        return np.asarray(root * np.sqrt(1 + h * diversity))

    def least(diversity: Array) -> float:
        return float(-0.9 / diversity.max())  # keeps the argument of the root positive

    return {
        "log": _form(lambda a, b, h: b + a * grown(h, log), values, ("h", near, least(log))),
        "constant": _form(lambda a, b: b + a * root, values),
        "linear": _form(lambda a, b, h: b + a * grown(h, m - 1), values, ("h", 0.1, least(m - 1))),
        "floor": _form(lambda a, b, s: b + s * log + a * root, values, ("slope", 0.0, -1.0)),
    }


def _form(
    curve: Callable[..., Array], values: Array, third: tuple[str, float, float] | None = None
) -> Form:
    """Fits A, B and possibly a third parameter, given by its name, start and lower bound."""
    names, start, low, high = ["A", "B"], [0.3, 0.05], [0.0, 0.0], [5.0, 1.0]
    if third is not None:
        names.append(third[0])
        start.append(third[1])
        low.append(third[2])
        high.append(100.0)
    best, squares = fit(curve, values, start, (low, high), np.eye(len(values)))
    mean = max(squares / len(values), 1e-12)  # keeps the logarithm of an exact fit finite
    likelihood = len(values) * float(np.log(mean))
    # The estimated variance of the residuals counts as one more parameter.
    aicc = corrected_aic(likelihood, len(values), len(names) + 1)
    return Form(dict(zip(names, best.tolist(), strict=True)), aicc, mean**0.5)

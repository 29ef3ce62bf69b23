"""How large a distilled set must be to serve the worst of M configurations.

The law is ``B + A sqrt((1 + h ln M) k0 / k)`` in the number of images k, where k0 is the geometric
mean of the sizes measured: the size that a target requires grows with ln M, the entropy of the
uniform distribution over M configurations. It is compared with laws in which the size does not
grow, grows with M itself, or in which the floor grows.

The worst of M noisy gaps exceeds the worst gap by up to two standard errors, which looks like the
law. So the worst configuration is chosen on half of the replicates and read on the other half. The
noise of a network's accuracy on all real images is in both halves: gaps need many such networks.

Reference: Luo and Xu, Utility Boundary of Dataset Distillation (arXiv 2512.05817).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import comb

from sdc_ext.errors import InputError
from sdc_ext.theory.accuracies import Family, Quantity, Series
from sdc_ext.theory.fitting import Array, Interval, Profile, corrected_aic, finite, fit
from sdc_ext.theory.required import Required, Trend, required_sizes, trend

FormName: TypeAlias = Literal["log", "constant", "linear", "floor"]

MODE = "one set on M configurations"
_COUNTS = (1, 2, 4, 8, 16)
_LEAST_CONFIGURATIONS, _LEAST_SIZES = 4, 3
_SPLITS = 20
_DRAWS = 1000
# h ln M of the greatest M: steps of 3 %, and of 0.0006 at 0. Noise may take it below 0.
_GROWTHS = 0.02 * np.sinh(np.linspace(-np.arcsinh(45), np.arcsinh(3000), 440))


@dataclass(frozen=True)
class Form:
    """One fitted law.

    Attributes:
        parameters: A at k0 images, B, and h or the floor's slope.
        aicc: Akaike's criterion for few points, with the variance of the residuals estimated.
        rms: root of the mean squared residual.
    """

    parameters: dict[str, float]
    aicc: float
    rms: float


@dataclass(frozen=True)
class Coverage:
    """The coverage law of one family of sets.

    Attributes:
        family: of the sets.
        quantity: what is meant by worst, see [`Series`][sdc_ext.theory.Series].
        configurations: all that the sets were evaluated on.
        sizes: numbers of images, ascending; those that all configurations have.
        replicates: of each size, those that all configurations have.
        counts: M, ascending.
        worst: the worst of M, a mean over all choices of M; a row an M, a column a size.
        forms: the fitted laws.
        growth: 95 % interval of h of the law with ln M, by bootstrap over
            configurations, with fresh noise.
        target: the gap or error that sizes are required for.
        required: what it requires, one an M.
        trends: of the required size with ``"ln M"`` and ``"M"``; None with fewer than 3.
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
        """The law of the lowest AICc."""
        return min(self.forms, key=lambda name: self.forms[name].aicc)

    @property
    def claimed(self) -> bool:
        """Whether the law with ln M is the best and its h is above 0 beyond doubt."""
        return self.best == "log" and self.growth[0] > 0

    def predicted(self, sizes: Array, count: int) -> Array:
        """The worst of ``count`` at these sizes, by the law with ln M."""
        a, b, h = (self.forms["log"].parameters[name] for name in "ABh")
        center = np.exp(np.log(self.sizes).mean())
        return np.asarray(b + a * np.sqrt((1 + h * np.log(count)) * center / sizes))

    def summary(self) -> dict[str, Any]:
        """All of it, and what follows from it, as content for JSON; None is infinite."""
        return dict(
            finite({"mode": MODE, **asdict(self), "best": self.best, "claimed": self.claimed})
        )


def fit_coverage(
    series: Sequence[Series], target: float | None = None, seed: int = 0, draws: int = _DRAWS
) -> Coverage:
    """Fits the laws to a family of sets.

    Args:
        series: of one family, one a configuration, at least 4.
        target: the gap or error to reach; left out, halfway between the largest of the greatest
            size and the smallest of the least.
        seed: of the splits and the bootstrap.
        draws: of the bootstrap.

    Raises:
        InputError: if there are too few configurations, or too few sizes or replicates that all
            of them share.
    """
    family, quantity = series[0].family, _shared_quantity(series)
    measured = _measured(series)
    random = np.random.default_rng(seed)
    n = len(series)
    counts = tuple(m for m in _COUNTS if m <= n)
    chosen = np.vstack([np.arange(n), np.sort(random.integers(n, size=(draws, n)), axis=1)])
    ranked = _rankings(list(measured.values()), chosen, random)
    worst = ranked @ _subset_weights(n, counts).T
    sizes, mean = np.array(list(measured), float), worst[0]
    growths = _growths(sizes, counts, worst)
    target = _middle(mean) if target is None else target
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


def _shared_quantity(series: Sequence[Series]) -> Quantity:
    if len({s.quantity for s in series}) > 1:
        odd = next(s for s in series if s.quantity == "error")
        raise InputError(
            f"{odd} lacks networks trained on all real images, which other networks have: train "
            "them for all networks or leave them out for all"
        )
    return series[0].quantity


def _measured(series: Sequence[Series]) -> dict[int, Array]:
    """By size, what all configurations have: (configurations, replicates)."""
    if len(series) < _LEAST_CONFIGURATIONS:
        raise InputError(
            f"{series[0].family}: a law of coverage needs at least {_LEAST_CONFIGURATIONS} "
            f"configurations, got {len(series)}: evaluate the sets on more networks"
        )
    measured = {}
    for size in sorted(set.intersection(*(set(s.values) for s in series))):
        shared = sorted(set.intersection(*(set(s.values[size]) for s in series)))
        if len(shared) >= 2:
            measured[size] = np.array([[s.values[size][r] for r in shared] for s in series])
    if len(measured) < _LEAST_SIZES:
        raise InputError(
            f"{series[0].family}: a law of coverage needs at least {_LEAST_SIZES} sizes with 2 "
            f"sets or more that all {len(series)} configurations share, got {len(measured)}: "
            "evaluate the same sets on all networks"
        )
    return measured


def _rankings(
    measured: Sequence[Array], chosen: NDArray[np.int64], random: np.random.Generator
) -> Array:
    """What one half says of the configurations in the order, best first, of the other half.

    Args:
        measured: of each size, (configurations, replicates).
        chosen: (draws, configurations), which configurations count.
        random: draws the halves, and noise for all draws but the first, which are resamples.

    Returns:
        (draws, sizes, configurations), a mean over halves.
    """
    ranked = np.zeros((len(chosen), len(measured), chosen.shape[1]))
    for place, values in enumerate(measured):
        noisy = values[chosen]
        noisy[1:] += _noise(values) * random.standard_normal(noisy[1:].shape)
        for _ in range(_SPLITS):
            halves = np.array_split(random.permutation(values.shape[1]), 2)
            first, second = (noisy[:, :, half].mean(2) for half in halves)
            for judge, read in ((first, second), (second, first)):
                order = judge.argsort(1, kind="stable")
                ranked[:, place] += np.take_along_axis(read, order, 1) / (2 * _SPLITS)
    return ranked


def _noise(values: Array) -> float:
    """Standard deviation of what neither the configuration nor the replicate explains."""
    rest = values - values.mean(1, keepdims=True) - values.mean(0) + values.mean()
    freedom = (values.shape[0] - 1) * (values.shape[1] - 1)
    return float(np.sqrt((rest**2).sum() / freedom))


def _subset_weights(n: int, counts: Sequence[int]) -> Array:
    """How often each rank is the worst of all subsets of M: (counts, n)."""
    ranks = np.arange(1, n + 1)
    below = np.array([[comb(r - 1, m - 1, exact=True) for r in ranks] for m in counts], float)
    return np.asarray(below / below.sum(1, keepdims=True))


def _growth_interval(growths: Array, most: int, configurations: int) -> Interval:
    """Student's interval of the first h, by the spread of the others.

    It is one of ln(1 + h ln M) for the greatest M, which is nearer to normal than h. Percentiles
    would not do: a configuration that is drawn twice makes no subset worse. It covers in 92 % of
    cases with 8 to 32 configurations at h = 0.8, and nearly always at h = 0.
    """
    grown = np.log1p(growths * np.log(most))
    spread = grown[1:].std() * (configurations / (configurations - 1)) ** 0.5
    half = stats.t.ppf(0.975, configurations - 1) * spread
    low, high = np.expm1([grown[0] - half, grown[0] + half]) / np.log(most)
    return float(low), float(high)


def _middle(worst: Array) -> float:
    """Between the worst at the largest size and the best at the smallest: (sizes, counts)."""
    return float((worst[-1].max() + worst[0].min()) / 2)


def _grid(sizes: Array, counts: Sequence[int]) -> tuple[Array, Array]:
    """Root of k0 / k, and M, at all points: sizes times counts, sizes first."""
    root = np.exp(np.log(sizes).mean() / 2) / np.sqrt(sizes)
    return np.repeat(root, len(counts)), np.tile(np.array(counts, float), len(sizes))


def _growths(sizes: Array, counts: Sequence[int], worst: Array) -> Array:
    """h of the law with ln M, of many draws of (sizes, counts): (draws,)."""
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
        return float(-0.9 / diversity.max())  # where the root is still real

    return {
        "log": _form(lambda a, b, h: b + a * grown(h, log), values, ("h", near, least(log))),
        "constant": _form(lambda a, b: b + a * root, values),
        "linear": _form(lambda a, b, h: b + a * grown(h, m - 1), values, ("h", 0.1, least(m - 1))),
        "floor": _form(lambda a, b, s: b + s * log + a * root, values, ("slope", 0.0, -1.0)),
    }


def _form(
    curve: Callable[..., Array], values: Array, third: tuple[str, float, float] | None = None
) -> Form:
    """Fits A, B and perhaps a third parameter, given by name, start and least value."""
    names, start, low, high = ["A", "B"], [0.3, 0.05], [0.0, 0.0], [5.0, 1.0]
    if third is not None:
        names.append(third[0])
        start.append(third[1])
        low.append(third[2])
        high.append(100.0)
    best, squares = fit(curve, values, start, (low, high), np.eye(len(values)))
    mean = max(squares / len(values), 1e-12)  # an exact fit has a logarithm, too
    likelihood = len(values) * float(np.log(mean))
    # The variance of the residuals is one more parameter.
    aicc = corrected_aic(likelihood, len(values), len(names) + 1)
    return Form(dict(zip(names, best.tolist(), strict=True)), aicc, mean**0.5)

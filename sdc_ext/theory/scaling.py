"""The scaling law: how the error of a distilled set falls with its size, and whether to a floor.

The law is ``B + A (k / k0)^-beta`` in the number of images k, where k0 is the geometric mean of the
measured sizes. S0 has no floor B; S1 has a floor and beta = 1/2; S2 has a floor and any beta.

Reference: Luo and Xu, Utility Boundary of Dataset Distillation (arXiv 2512.05817), who prove such
a law as an upper bound. A fit examines whether measurements follow it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from sdc_ext._values import Count, Seed, checked
from sdc_ext.errors import InputError
from sdc_ext.evaluation.intervals import Array, Interval
from sdc_ext.theory.accuracies import LEAST_ERROR, Series
from sdc_ext.theory.fitting import (
    Profile,
    corrected_aic,
    finite,
    fit,
    interval,
    whitening,
)

Name: TypeAlias = Literal["S0", "S1", "S2"]
Verdict: TypeAlias = Literal["floor", "none seen", "no law fits", "undetermined"]

# With fewer than 5 sizes a floor is indistinguishable from a slow fall; a law of two parameters
# needs at least 3.
FLOOR_SIZES = 5
_LEAST_SIZES = 3

_LEVEL = 0.05
# A law with a lower p-value does not describe the means.
_MISFIT_LEVEL = 0.01
_CLAIM = 4.0
_DRAWS = 1000
_AMPLITUDE, _EXPONENT, _FLOOR = (0.0, 5.0), (0.05, 2.0), (0.0, 1.0)


@dataclass(frozen=True)
class Points:
    """The points that a law is fitted to.

    Attributes:
        sizes: The numbers of images, ascending.
        means: The gap or error at each size, a mean over replicates.
        standard_errors: The standard errors of the means.
        replicates: The number of replicates of each size.
        shared_error: The standard error of what all means share, which is the accuracy on all
            real images if the means are gaps.
    """

    sizes: tuple[int, ...]
    means: tuple[float, ...]
    standard_errors: tuple[float, ...]
    replicates: tuple[int, ...]
    shared_error: float = 0.0

    @classmethod
    def of(cls, series: Series) -> Points:
        """Averages a series over replicates.

        One standard deviation is pooled over all sizes. That of three seeds at a single size is so
        uncertain that the test would find a floor in 12 to 15 % of cases without one.

        Raises:
            InputError: If there are fewer than 3 sizes, or too few replicates.
        """
        values = [np.array(list(of_size.values())) for of_size in series.values.values()]
        counts = np.array([len(v) for v in values])
        spare = int((counts - 1).sum())
        if len(values) < _LEAST_SIZES or spare < 2:
            raise InputError(
                f"{series}: a scaling law needs at least 3 sizes, and 2 more sets than sizes, got "
                f"{len(values)} sizes and {counts.sum()} sets: distil more sizes, or more seeds"
            )
        pooled = (sum(((v - v.mean()) ** 2).sum() for v in values) / spare) ** 0.5
        errors = np.maximum(pooled / np.sqrt(counts), LEAST_ERROR)
        return cls(
            sizes=tuple(series.values),
            means=tuple(float(v.mean()) for v in values),
            standard_errors=tuple(errors.tolist()),
            replicates=tuple(counts.tolist()),
            shared_error=series.reference_error,
        )

    @property
    def center(self) -> float:
        """The geometric mean of the sizes, k0."""
        return float(np.exp(np.log(self.sizes).mean()))

    @property
    def freedom(self) -> int:
        """The degrees of freedom of the pooled standard deviation."""
        return sum(self.replicates) - len(self.replicates)

    @property
    def covariance(self) -> Array:
        """The covariance of the means (sizes, sizes)."""
        return np.diag(np.square(self.standard_errors)) + self.shared_error**2


@dataclass(frozen=True)
class Law:
    """A fitted law with 95 % intervals.

    Attributes:
        amplitude: The amplitude A, which is the height above the floor at ``center`` images.
        exponent: The exponent beta.
        floor: The floor B; 0 if none was fitted.
        center: The geometric mean k0 of the sizes, in images.
        deviance: The sum of the squared residuals in units of their standard errors.
        aicc: Akaike's information criterion, corrected for few points; infinite if there are too
            few of them.
        intervals: The 95 % intervals of ``amplitude``, ``exponent``, ``floor`` and
            ``saturation``, by parametric bootstrap; what was not fitted has an interval of length
            0. If there is no floor, the intervals of S2's amplitude and exponent cover the true
            values in only 83 to 90 % of cases; those of S0 cover them in 95 %.
        band: The 95 % interval of the law at each measured size.
    """

    amplitude: float
    exponent: float
    floor: float
    center: float
    deviance: float
    aicc: float
    intervals: dict[str, Interval]
    band: tuple[Interval, ...]

    @property
    def saturation(self) -> float:
        """The size in images at which the floor is half of the error; infinite without a floor."""
        return _saturation(self.amplitude, self.exponent, self.floor, self.center)

    def __call__(self, sizes: Array) -> Array:
        """Returns the gap or error that the law predicts at these numbers of images."""
        return power_law(sizes / self.center, self.amplitude, self.exponent, self.floor)


@dataclass(frozen=True)
class Scaling:
    """The scaling law of one series.

    Attributes:
        series: The measurements.
        points: Their means over replicates.
        laws: The fitted laws S0 and S1 and, from 5 sizes on, S2.
        p_value: The p-value of the likelihood-ratio test of S2 against S0; None below 5 sizes.
        aicc_gain: The AICc of S0 minus that of S1. From 4 on it speaks for a floor; None below 5
            sizes.
    """

    series: Series
    points: Points
    laws: dict[Name, Law]
    p_value: float | None
    aicc_gain: float | None

    @property
    def verdict(self) -> Verdict:
        """The answer of the likelihood-ratio test for a floor at a level of 5 %.

        There is no answer (``"no law fits"``) if the law that the test chooses does not describe
        the means.
        """
        if self.p_value is None:
            return "undetermined"
        if self.misfit < _MISFIT_LEVEL:
            return "no law fits"
        return "floor" if self._sees_floor else "none seen"

    @property
    def misfit(self) -> float:
        """The p-value of the chosen law; low if the means deviate from it by more than noise."""
        law, sizes = self.laws[self.chosen], len(self.points.sizes)
        spare = sizes - (3 if self.chosen == "S2" else 2)
        return float(stats.f.sf(law.deviance / spare, spare, self.points.freedom))

    @property
    def aicc_claims(self) -> bool:
        """Whether AICc also finds a floor, if the error falls as the root of the size."""
        return self.aicc_gain is not None and self.aicc_gain >= _CLAIM

    @property
    def chosen(self) -> Name:
        """The law to use: S2, with a floor, if the test finds a floor, and S0 otherwise."""
        return "S2" if self._sees_floor else "S0"

    def summary(self) -> dict[str, Any]:
        """Returns all fields and conclusions as content for JSON; None stands for infinity."""
        content = asdict(self)
        for name, fitted in self.laws.items():
            content["laws"][name]["saturation"] = fitted.saturation
        content |= {"verdict": self.verdict, "aicc_claims": self.aicc_claims}
        content |= {"chosen": self.chosen, "misfit": self.misfit}
        return dict(finite(content))

    @property
    def _sees_floor(self) -> bool:
        return self.p_value is not None and self.p_value < _LEVEL


@checked
def fit_scaling(series: Series, seed: Seed = 0, draws: Count = _DRAWS) -> Scaling:
    """Fits the scaling laws to a series, and tests for a floor.

    Args:
        series: A series of at least 3 sizes, with at least 2 more replicates than sizes.
        seed: Seeds the bootstrap.
        draws: The number of bootstrap draws.

    Raises:
        InputError: If a value is out of range, or if there are too few sizes or replicates.

    Reference: Luo and Xu, Utility Boundary of Dataset Distillation (arXiv 2512.05817).
    """
    points = Points.of(series)
    names: tuple[Name, ...] = ("S0", "S1", "S2")
    if len(points.sizes) < FLOOR_SIZES:
        names = ("S0", "S1")
    random = np.random.default_rng(seed)
    laws = {name: _law(_FORMS[name], points, random, draws) for name in names}
    if "S2" not in laws:
        return Scaling(series, points, laws, None, None)
    p_value = floor_test(laws["S0"].deviance - laws["S2"].deviance, points.freedom)
    return Scaling(series, points, laws, p_value, laws["S0"].aicc - laws["S1"].aicc)


def floor_test(gain: float, freedom: int) -> float:
    """Returns the p-value of a floor by a likelihood-ratio test on the boundary.

    Without a floor, B lies on its bound of 0. With known standard errors, the gain then is an equal
    mixture of chi-squares with 0 and 1 degrees of freedom; with estimated ones, an F distribution
    replaces the latter.

    Args:
        gain: The decrease in deviance compared with the law without a floor.
        freedom: The degrees of freedom of the standard errors.
    """
    return 1.0 if gain <= 0 else 0.5 * float(stats.f.sf(gain, 1, freedom))


@dataclass(frozen=True)
class _Form:
    """The free part of a law: the candidates for the exponent, and whether there is a floor."""

    exponents: Array
    with_floor: bool

    @property
    def free(self) -> NDArray[np.bool_]:
        """A mask of the free parameters among amplitude, exponent and floor (3,)."""
        return np.array([True, len(self.exponents) > 1, self.with_floor])


# Steps of 1 %, finer than any standard error.
_EXPONENTS = np.geomspace(*_EXPONENT, 371)
_FORMS: dict[Name, _Form] = {
    "S0": _Form(_EXPONENTS, with_floor=False),
    "S1": _Form(np.array([0.5]), with_floor=True),
    "S2": _Form(_EXPONENTS, with_floor=True),
}


def _law(form: _Form, points: Points, random: np.random.Generator, draws: int) -> Law:
    """Fits one form to the means, and again to draws around the fit (parametric bootstrap)."""
    ratio, covariance = np.array(points.sizes) / points.center, points.covariance
    whiten = whitening(covariance)

    def scan(values: Array) -> Array:
        found = Profile.of(ratio ** -form.exponents[:, None], values, whiten, form.with_floor)
        return np.stack([found.amplitude, form.exponents[found.chosen], found.floor])

    means = np.array(points.means)
    best, deviance = _refine(form, scan(means[None])[:, 0], means, ratio, covariance)
    noise = random.multivariate_normal(np.zeros(len(ratio)), covariance, draws)
    # The standard errors are estimates themselves, so the noise follows Student's t distribution.
    noise *= np.sqrt(points.freedom / random.chisquare(points.freedom, (draws, 1)))
    again = scan(power_law(ratio, *best) + noise)
    columns = dict(zip(("amplitude", "exponent", "floor"), again, strict=True))
    columns["saturation"] = np.array(
        [_saturation(a, e, b, points.center) for a, e, b in again.T.tolist()]
    )
    curves = power_law(ratio[:, None], *again)
    amplitude, exponent, floor = best.tolist()
    return Law(
        amplitude=amplitude,
        exponent=exponent,
        floor=floor,
        center=points.center,
        deviance=deviance,
        aicc=corrected_aic(deviance, len(ratio), int(form.free.sum())),
        intervals={name: interval(values) for name, values in columns.items()},
        band=tuple(interval(values) for values in curves),
    )


def _refine(
    form: _Form, near: Array, means: Array, ratio: Array, covariance: Array
) -> tuple[Array, float]:
    """Refines the best of the scanned parameters; returns them with their deviance."""

    def complete(free: Array) -> Array:
        best = near.copy()
        best[form.free] = free
        return best

    low, high = np.array([_AMPLITUDE, _EXPONENT, _FLOOR])[form.free].T
    free, deviance = fit(
        lambda *p: power_law(ratio, *complete(np.array(p))),
        means,
        near[form.free],
        (low, high),
        covariance,
    )
    return complete(free), deviance


def power_law(ratio: Array, amplitude: ArrayLike, exponent: ArrayLike, floor: ArrayLike) -> Array:
    """Returns ``B + A ratio^-beta``."""
    return np.asarray(floor + amplitude * ratio ** -np.asarray(exponent))


def _saturation(amplitude: float, exponent: float, floor: float, center: float) -> float:
    # A smaller floor is on its bound up to rounding.
    if floor < 1e-6:
        return float("inf")
    return float(center * (amplitude / floor) ** (1 / exponent))

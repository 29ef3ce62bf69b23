"""How the error of a distilled set falls with its size, and whether it stops at a floor.

The law is ``B + A (k / k0)^-beta`` in the number of images k, where k0 is the geometric mean of the
sizes measured. S0 has no floor B, S1 has one and beta = 1/2, S2 has one and any beta.

Reference: Luo and Xu, Utility Boundary of Dataset Distillation (arXiv 2512.05817), who prove such
a law as an upper bound; that measurements follow it is what a fit examines.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from sdc_ext.errors import InputError
from sdc_ext.theory.accuracies import LEAST_ERROR, Series
from sdc_ext.theory.fitting import (
    Array,
    Interval,
    Profile,
    corrected_aic,
    finite,
    fit,
    interval,
    whitening,
)

Name: TypeAlias = Literal["S0", "S1", "S2"]
Verdict: TypeAlias = Literal["floor", "none seen", "no law fits", "undetermined"]

# With fewer sizes a floor cannot be told from a slow fall, and two parameters need three.
FLOOR_SIZES = 5
_LEAST_SIZES = 3

_LEVEL = 0.05
# A law below it does not describe the means.
_MISFIT_LEVEL = 0.01
_CLAIM = 4.0
_DRAWS = 1000
_AMPLITUDE, _EXPONENT, _FLOOR = (0.0, 5.0), (0.05, 2.0), (0.0, 1.0)


@dataclass(frozen=True)
class Points:
    """What a law is fitted to.

    Attributes:
        sizes: numbers of images, ascending.
        means: the gap or error at each, a mean over replicates.
        standard_errors: of the means.
        replicates: how many there are of each size.
        shared_error: standard error of what all means have in common, the reference of a gap.
    """

    sizes: tuple[int, ...]
    means: tuple[float, ...]
    standard_errors: tuple[float, ...]
    replicates: tuple[int, ...]
    shared_error: float = 0.0

    @classmethod
    def of(cls, series: Series) -> Points:
        """Means over replicates.

        One standard deviation is pooled over all sizes: that of three seeds at one size is so
        uncertain that the test for a floor would find one in 12 to 15 % of cases without.

        Raises:
            InputError: if there are too few sizes or replicates.
        """
        values = [np.array(list(of_size.values())) for of_size in series.values.values()]
        counts = np.array([len(v) for v in values])
        spare = int((counts - 1).sum())
        if len(values) < _LEAST_SIZES or spare < 2:
            raise InputError(
                f"{series}: a law needs at least 3 sizes, and 2 of them with several sets, got "
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
        """k0, the geometric mean of the sizes."""
        return float(np.exp(np.log(self.sizes).mean()))

    @property
    def freedom(self) -> int:
        """Degrees of freedom of the pooled standard deviation."""
        return sum(self.replicates) - len(self.replicates)

    @property
    def covariance(self) -> Array:
        """Of the means (sizes, sizes)."""
        return np.diag(np.square(self.standard_errors)) + self.shared_error**2


@dataclass(frozen=True)
class Law:
    """A fitted law with 95 % intervals.

    Attributes:
        amplitude: A, what is above the floor at ``center`` images.
        exponent: beta.
        floor: B; 0 where none was fitted.
        center: k0, in images.
        deviance: sum of squares of the residuals in units of their standard errors.
        aicc: Akaike's criterion for few points; infinite where they are too few.
        intervals: of ``amplitude``, ``exponent``, ``floor`` and ``saturation``, by parametric
            bootstrap; those of what was not fitted are points. Where there is no floor, those of
            S2's amplitude and exponent cover in 83 to 90 % of cases only, those of S0 in 95 %.
        band: 95 % interval of the law at each size measured.
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
        """The size in images at which the floor is half of the error; infinite without one."""
        return _saturation(self.amplitude, self.exponent, self.floor, self.center)

    def __call__(self, sizes: Array) -> Array:
        return power_law(sizes / self.center, self.amplitude, self.exponent, self.floor)


@dataclass(frozen=True)
class Scaling:
    """The scaling law of one series.

    Attributes:
        series: what was measured.
        points: its means.
        laws: S0 and S1, and S2 from 5 sizes on.
        p_value: of the likelihood-ratio test of S2 against S0; None below 5 sizes.
        aicc_gain: AICc of S0 less that of S1: from 4 on it speaks for a floor; None below 5 sizes.
    """

    series: Series
    points: Points
    laws: dict[Name, Law]
    p_value: float | None
    aicc_gain: float | None

    @property
    def verdict(self) -> Verdict:
        """Whether there is a floor, by the likelihood-ratio test at a level of 5 %.

        None can be told where the law that the test chooses does not describe the means.
        """
        if self.p_value is None:
            return "undetermined"
        if self.misfit < _MISFIT_LEVEL:
            return "no law fits"
        return "floor" if self._sees_floor else "none seen"

    @property
    def misfit(self) -> float:
        """The p-value of the chosen law: low where the means are not on it, but for their noise."""
        law, sizes = self.laws[self.chosen], len(self.points.sizes)
        spare = sizes - (3 if self.chosen == "S2" else 2)
        return float(stats.f.sf(law.deviance / spare, spare, self.points.freedom))

    @property
    def aicc_claims(self) -> bool:
        """Whether AICc, too, finds a floor, if the error falls as the root of the size."""
        return self.aicc_gain is not None and self.aicc_gain >= _CLAIM

    @property
    def chosen(self) -> Name:
        """The law to go by: the one with a floor only where the test sees a floor."""
        return "S2" if self._sees_floor else "S0"

    def summary(self) -> dict[str, Any]:
        """All of it, and what follows from it, as content for JSON; None is infinite."""
        content = asdict(self)
        for name, fitted in self.laws.items():
            content["laws"][name]["saturation"] = fitted.saturation
        content |= {"verdict": self.verdict, "aicc_claims": self.aicc_claims}
        content |= {"chosen": self.chosen, "misfit": self.misfit}
        return dict(finite(content))

    @property
    def _sees_floor(self) -> bool:
        return self.p_value is not None and self.p_value < _LEVEL


def fit_scaling(series: Series, seed: int = 0, draws: int = _DRAWS) -> Scaling:
    """Fits the laws to a series and looks for a floor.

    Args:
        series: at least 3 sizes, 2 of them with several replicates.
        seed: of the bootstrap.
        draws: of the bootstrap.

    Raises:
        InputError: if there are too few sizes or replicates.
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
    """The p-value of a floor, which is on its bound if there is none.

    With known standard errors the gain is a half-and-half mixture of chi-squares with 0 and 1
    degrees of freedom; with estimated ones F takes the place of the second.

    Args:
        gain: in deviance, over the law without a floor.
        freedom: degrees of freedom of the standard errors.
    """
    return 1.0 if gain <= 0 else 0.5 * float(stats.f.sf(gain, 1, freedom))


@dataclass(frozen=True)
class _Form:
    """What of a law is free: exponents to choose from, and whether there is a floor."""

    exponents: Array
    with_floor: bool

    @property
    def free(self) -> NDArray[np.bool_]:
        """Which of amplitude, exponent and floor."""
        return np.array([True, len(self.exponents) > 1, self.with_floor])


# Steps of 1 %, finer than any standard error.
_EXPONENTS = np.geomspace(*_EXPONENT, 371)
_FORMS: dict[Name, _Form] = {
    "S0": _Form(_EXPONENTS, with_floor=False),
    "S1": _Form(np.array([0.5]), with_floor=True),
    "S2": _Form(_EXPONENTS, with_floor=True),
}


def _law(form: _Form, points: Points, random: np.random.Generator, draws: int) -> Law:
    """Fits one form, then again to what it could have been seen as."""
    ratio, covariance = np.array(points.sizes) / points.center, points.covariance
    whiten = whitening(covariance)

    def scan(values: Array) -> Array:
        found = Profile.of(ratio ** -form.exponents[:, None], values, whiten, form.with_floor)
        return np.stack([found.amplitude, form.exponents[found.chosen], found.floor])

    means = np.array(points.means)
    best, deviance = _refine(form, scan(means[None])[:, 0], means, ratio, covariance)
    noise = random.multivariate_normal(np.zeros(len(ratio)), covariance, draws)
    # The standard errors are estimates themselves: the noise is Student's, not Gauss's.
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
    """The best parameters, from the best of those scanned."""

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
    """``B + A ratio^-beta``."""
    return np.asarray(floor + amplitude * ratio ** -np.asarray(exponent))


def _saturation(amplitude: float, exponent: float, floor: float, center: float) -> float:
    # Below this the fit is on its bound, but for rounding.
    if floor < 1e-6:
        return float("inf")
    return float(center * (amplitude / floor) ** (1 / exponent))

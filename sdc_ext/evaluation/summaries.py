"""Random-effects summaries of gains that were measured in several settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from sdc_ext.errors import InputError
from sdc_ext.evaluation.intervals import Array, Interval, t_quantile


@dataclass(frozen=True)
class RandomEffects:
    """The mean of effects that differ from setting to setting, and how much they differ.

    Attributes:
        mean: The estimated mean of the settings' true effects.
        interval: The 95 % confidence interval of this mean.
        prediction: The interval that contains the true effect in a further setting with a
            probability of about 95 %; None for fewer than three settings.
        tau: The estimated standard deviation of the true effects between settings.
        i_squared: The part of the spread of the measured effects, in [0, 1], that is due to
            differences between settings rather than to the noise of seeds.
        p: The two-sided p-value of a mean of 0.
        n: The number of settings.
    """

    mean: float
    interval: Interval
    prediction: Interval | None
    tau: float
    i_squared: float
    p: float
    n: int


def random_effects(effects: Sequence[float], errors: Sequence[float]) -> RandomEffects:
    """Combines effects by a random-effects model.

    The variance between settings is Paule and Mandel's estimate, the interval Hartung and Knapp's
    with their correction: it is never narrower than one with known variances would be.

    Args:
        effects: One effect per setting, at least two.
        errors: Their standard errors, all above 0.

    Raises:
        InputError: If there are fewer than two effects, their numbers differ, or an error is not
            above 0.

    Reference: Paule and Mandel, Journal of Research of the National Bureau of Standards 87, 1982;
        Knapp and Hartung, Statistics in Medicine 22, 2003; Higgins, Thompson and Spiegelhalter,
        Journal of the Royal Statistical Society A 172, 2009 (prediction).
    """
    y, s = np.asarray(effects, float), np.asarray(errors, float)
    if len(y) != len(s) or len(y) < 2 or not (s > 0).all():
        raise InputError(
            "a summary needs at least 2 effects, each with a standard error above 0, got "
            f"{len(y)} effects and the errors {', '.join(f'{e:g}' for e in s) or 'none'}"
        )
    n = len(y)
    tau_squared = _between(y, s)
    weights = 1 / (s**2 + tau_squared)
    mean = float(weights @ y / weights.sum())
    excess = max(1.0, _heterogeneity(y, s, tau_squared) / (n - 1))
    error = float((excess / weights.sum()) ** 0.5)
    half = t_quantile(n - 1) * error
    q = _heterogeneity(y, s, 0.0)
    return RandomEffects(
        mean=mean,
        interval=(mean - half, mean + half),
        prediction=_prediction(mean, (tau_squared + error**2) ** 0.5, n),
        tau=tau_squared**0.5,
        i_squared=max(0.0, 1 - (n - 1) / q) if q > 0 else 0.0,
        p=float(2 * stats.t.sf(abs(mean) / error, n - 1)),
        n=n,
    )


def _prediction(mean: float, spread: float, n: int) -> tuple[float, float] | None:
    if n < 3:
        return None
    half = t_quantile(n - 2) * spread
    return mean - half, mean + half


def _heterogeneity(y: Array, s: Array, tau_squared: float) -> float:
    """Returns Cochran's Q with the weights of a variance between settings."""
    weights = 1 / (s**2 + tau_squared)
    mean = weights @ y / weights.sum()
    return float(weights @ (y - mean) ** 2)


def _between(y: Array, s: Array) -> float:
    """Returns the variance between settings for which Q has its expected value, n - 1."""

    def surplus(tau_squared: float) -> float:
        return _heterogeneity(y, s, tau_squared) - (len(y) - 1)

    if surplus(0.0) <= 0:
        return 0.0
    # With this variance Q is below 1, since none of its n terms reaches 1/n.
    most = len(y) * float(np.ptp(y)) ** 2
    return float(optimize.brentq(surplus, 0.0, most, xtol=1e-18, rtol=1e-12))

"""Simulates comparisons with a known gain, and counts how often their statistics are right.

    python benchmarks/compare_statistics.py [--repetitions 1000]

Differences between paired runs are drawn in two ways. "Normal" ones have a standard deviation of
0.8 points. "Skewed" ones are differences of accuracies on 360 test images (as on small test sets),
where the base varies by 2 points from seed to seed and the changed run sometimes fails: the
difference has a long tail to the left and a deviation of about 0.8 points, too. The functions are
those that ``compare`` calls. It takes less than two minutes on one core.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from sdc_ext.evaluation import PairedDifference, holm, random_effects

LEVEL = 0.05
STD = 0.008
MARGIN = GAIN = 0.005
STEPS = 360
SEEDS = (5, 10, 20)
ARMS = 4
FIRST_LOOK, LAST_LOOK = 3, 30
SETTINGS = (3, 6, 12)
TAU = 0.003

Draw = np.random.Generator
Differences = npt.NDArray[np.float64]
Kind = Callable[[Draw, float, int, int, float], Differences]


def normal(draw: Draw, gain: float, arms: int, n: int, std: float = STD) -> Differences:
    """Returns differences (arms, n) of arms that share the runs of one base."""
    base = draw.normal(0, std / 2**0.5, (1, n))
    return gain + draw.normal(0, std / 2**0.5, (arms, n)) - base


def skewed(draw: Draw, gain: float, arms: int, n: int, std: float = STD) -> Differences:
    """Returns differences of accuracies in steps, with a tail of runs that failed."""
    level = draw.normal(0.83, 0.02, (1, n))
    base = level + draw.normal(0, std / 2, (1, n))
    failure = draw.gamma(1.0, 1.0, (arms, n)) - 1  # skewness 2
    changed = level + gain - 0.75**0.5 * std * failure
    return np.round(changed * STEPS) / STEPS - np.round(base * STEPS) / STEPS


KINDS: dict[str, Kind] = {"normal": normal, "skewed": skewed}


def paired(differences: Differences) -> list[PairedDifference]:
    """Returns one result per arm."""
    return [PairedDifference(tuple(map(float, row))) for row in differences]


def within(interval: tuple[float, float], value: float) -> bool:
    """Returns whether an interval contains a value."""
    return interval[0] <= value <= interval[1]


class Counts:
    """How often each of several things happened."""

    def __init__(self) -> None:
        self._counts: dict[str, list[bool]] = {}

    def add(self, **happened: bool) -> None:
        """Counts one repetition."""
        for name, one in happened.items():
            self._counts.setdefault(name, []).append(bool(one))

    def percent(self) -> dict[str, float]:
        """Returns the shares of repetitions, in percent."""
        return {name: 100 * float(np.mean(found)) for name, found in self._counts.items()}


def one_arm(kind: Kind, n: int, repetitions: int) -> dict[str, float]:
    """Returns coverage, false discoveries and power of a comparison of two arms."""
    draw, counts = np.random.default_rng(n), Counts()
    for _ in range(repetitions):
        (none,) = paired(kind(draw, 0.0, 1, n, STD))
        (some,) = paired(kind(draw, GAIN, 1, n, STD))
        counts.add(
            cover_t=within(none.t_interval, 0),
            cover_bootstrap=within(none.bootstrap_interval, 0),
            false_t=none.t_test < LEVEL,
            false_sign=none.sign_test < LEVEL,
            false_anytime=none.anytime_test < LEVEL,
            power_t=some.t_test < LEVEL,
            power_sign=some.sign_test < LEVEL,
            power_anytime=some.anytime_test < LEVEL,
            false_equivalence=some.equivalence_test(MARGIN) < LEVEL,
            power_equivalence=none.equivalence_test(MARGIN) < LEVEL,
        )
    return counts.percent()


def several_arms(kind: Kind, n: int, repetitions: int) -> dict[str, float]:
    """Returns how often a comparison of arms without effect has any discovery."""
    draw, counts = np.random.default_rng(n), Counts()
    for _ in range(repetitions):
        p_values = [arm.t_test for arm in paired(kind(draw, 0.0, ARMS, n, STD))]
        counts.add(plain=min(p_values) < LEVEL, holm=min(holm(p_values)) < LEVEL)
    return counts.percent()


def looks(kind: Kind, repetitions: int) -> dict[str, float]:
    """Returns how often somebody who looks after every seed ever makes a discovery."""
    draw, counts = np.random.default_rng(0), Counts()
    for _ in range(repetitions):
        seen = [_looked(kind(draw, gain, 1, LAST_LOOK, STD)[0]) for gain in (0.0, GAIN)]
        counts.add(
            false_t=any(look.t_test < LEVEL for look in seen[0]),
            false_anytime=any(look.anytime_test < LEVEL for look in seen[0]),
            covered=all(within(look.anytime_interval, GAIN) for look in seen[1]),
            power_anytime=any(look.anytime_test < LEVEL for look in seen[1]),
        )
    return counts.percent()


def _looked(differences: Differences) -> list[PairedDifference]:
    several = range(FIRST_LOOK, LAST_LOOK + 1)
    return [look for n in several for look in paired(differences[None, :n])]


def settings(kind: Kind, k: int, tau: float, repetitions: int) -> dict[str, float]:
    """Returns the coverage of the summary over k settings of 10 seeds, with unequal noise."""
    draw, counts = np.random.default_rng(k), Counts()
    for _ in range(repetitions):
        gains = draw.normal(GAIN, tau, k)
        stds = draw.uniform(0.25, 2.5, k) * STD
        found = [
            *(paired(kind(draw, g, 1, 10, s))[0] for g, s in zip(gains, stds, strict=True)),
        ]
        if not all(d.varies for d in found):
            continue
        summary = random_effects([d.mean for d in found], [d.error for d in found])
        further = draw.normal(GAIN, tau)
        counts.add(
            mean=within(summary.interval, GAIN),
            further=summary.prediction is not None and within(summary.prediction, further),
        )
    return counts.percent()


def rows(repetitions: int) -> Iterator[Sequence[str]]:
    """Yields the table: what is counted, in which case, and its share by kind and target."""
    labels = {
        "cover_t": ("t interval contains the gain", "95"),
        "cover_bootstrap": ("bootstrap interval contains the gain", "95"),
        "false_t": ("t-test finds a gain that is not there", "5"),
        "false_sign": ("sign test finds a gain that is not there", "at most 5"),
        "false_anytime": ("any-look test finds a gain that is not there", "at most 5"),
        "power_t": ("t-test finds a gain of 0.5", "high"),
        "power_sign": ("sign test finds a gain of 0.5", "high"),
        "power_anytime": ("any-look test finds a gain of 0.5", "high"),
        "false_equivalence": ("equivalence within 0.5 claimed of a gain of 0.5", "at most 5"),
        "power_equivalence": ("equivalence within 0.5 claimed of no gain", "high"),
    }
    by_seeds = {n: {k: one_arm(f, n, repetitions) for k, f in KINDS.items()} for n in SEEDS}
    for name, (label, target) in labels.items():
        for n, found in by_seeds.items():
            yield label, f"{n} seeds", *(f"{found[k][name]:.1f}" for k in KINDS), target
    arms = {k: several_arms(f, 10, repetitions) for k, f in KINDS.items()}
    for name, label in (("plain", "unadjusted"), ("holm", "Holm")):
        case = f"{ARMS} arms, 10 seeds"
        values = [f"{arms[k][name]:.1f}" for k in KINDS]
        yield f"any false gain among arms, {label}", case, *values, "at most 5"
    looked = {k: looks(f, repetitions) for k, f in KINDS.items()}
    case = f"looks at {FIRST_LOOK} to {LAST_LOOK} seeds"
    for name, label, target in (
        ("false_t", "t-test ever finds a gain that is not there", "at most 5"),
        ("false_anytime", "any-look test ever finds a gain that is not there", "at most 5"),
        ("covered", "any-look intervals all contain the gain", "at least 95"),
        ("power_anytime", "any-look test ever finds a gain of 0.5", "high"),
    ):
        yield label, case, *(f"{looked[k][name]:.1f}" for k in KINDS), target
    for tau in (0.0, TAU):
        for k in SETTINGS:
            found = {name: settings(f, k, tau, repetitions) for name, f in KINDS.items()}
            case = f"{k} settings, tau {100 * tau:g}"
            for name, label in (("mean", "mean gain"), ("further", "gain in a further setting")):
                values = [f"{found[kind][name]:.1f}" for kind in KINDS]
                yield f"summary's interval contains the {label}", case, *values, "95"


def main() -> None:
    """Prints the table as Markdown."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=1000)
    repetitions = parser.parse_args().repetitions
    print(f"Shares of {repetitions} simulated comparisons, in percent.\n")
    print(f"| what | case | {' | '.join(KINDS)} | should be |")
    print("| --- | --- | --- | --- | --- |")
    for row in rows(repetitions):
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()

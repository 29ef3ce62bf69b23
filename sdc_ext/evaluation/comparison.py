"""Comparing paired runs: several arms, each with the same seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from sdc_ext.errors import InputError
from sdc_ext.evaluation.arms import Arm
from sdc_ext.evaluation.paired import PairedDifference, bounded, holm
from sdc_ext.evaluation.results import set_columns
from sdc_ext.sets.synthetic_set import SyntheticSet

# The gain in accuracy that matters: smaller ones count as none, and seeds are counted for it.
GAIN = 0.005

_LEVEL = 0.05


@dataclass(frozen=True)
class Cell:
    """One run of a comparison: its arm, its seed and its accuracies.

    Attributes:
        arm: The settings of the run that differ between the arms.
        seed: The seed of everything random; runs with the same seed share all but the arm.
        accuracies: The accuracies of the evaluation that counts, one per network, in [0, 1].
        columns: Further columns for tables: the set, and the network it was evaluated with.
    """

    arm: Arm
    seed: int
    accuracies: tuple[float, ...]
    columns: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls, synthetic: SyntheticSet, arm: Arm, seed: int, evaluation: Mapping[str, Any]
    ) -> Cell:
        """Makes a cell from the set of a finished run.

        Args:
            synthetic: The distilled set.
            arm: The arm of this run.
            seed: The seed of this run.
            evaluation: The entry of ``synthetic.info.accuracies`` that counts.
        """
        recipe = synthetic.info.evaluation
        columns = {
            **set_columns(synthetic),
            "network": evaluation["network"],
            "epochs": recipe.epochs,
            "augmentation": recipe.augmentation,
        }
        if not arm.is_lam:  # the sets of two arms are no replicates of each other
            columns["correction"] = arm.name
        return cls(arm, seed, tuple(evaluation["accuracies"]), columns)

    @property
    def accuracy(self) -> float:
        """The mean accuracy over the networks, in [0, 1]."""
        return float(np.mean(self.accuracies))

    def row(self, index: int) -> dict[str, object]:
        """Returns the columns of one of the networks."""
        settings = {n: v for n, v in self.arm.settings if n not in self.columns}
        of_arm = {"arm": self.arm.name, **settings}
        at = {"seed": self.seed, "index": index, "accuracy": self.accuracies[index]}
        return {**self.columns, **of_arm, **at}


@dataclass(frozen=True)
class Gain:
    """What an arm gains over the base, and how sure that is.

    Attributes:
        arm: The arm.
        base: The arm that it is compared with.
        difference: The paired differences in accuracy.
        p: The p-value of the t-test, adjusted for the number of arms by Holm's method. It holds
            for a number of seeds that was fixed in advance.
        anytime_p: The p-value that stays valid if seeds are added after a look, adjusted in the
            same way.
        equivalence_p: The p-value of the test of equivalence, adjusted in the same way. It holds
            for a number of seeds that was fixed in advance.
        anytime_equivalence_p: That which stays valid if seeds are added after a look.
        margin: The smallest difference in accuracy that matters.
    """

    arm: Arm
    base: Arm
    difference: PairedDifference
    p: float
    anytime_p: float
    equivalence_p: float
    anytime_equivalence_p: float
    margin: float

    @property
    def verdict(self) -> str:
        """What the tests show at a level of 5 %, in one sentence."""
        margin, d = f"{100 * self.margin:g} points", self.difference
        against = f"a {'gain' if d.mean > 0 else 'loss'} against {self.base}"
        equivalent = f"equivalent to {self.base} within {margin}"
        if not any(d.differences):
            return (
                f"{self.arm}: all accuracies agree with those of {self.base} in all {d.n} seeds; "
                "the runs are probably too short to differ, so make them longer."
            )
        if self.anytime_p < _LEVEL:
            return f"{self.arm}: {against}, however often you looked."
        if self.anytime_equivalence_p < _LEVEL:
            return f"{self.arm}: {equivalent}, however often you looked."
        if self.p < _LEVEL:
            return f"{self.arm}: {against}, if the number of seeds was fixed in advance."
        if self.equivalence_p < _LEVEL:
            return f"{self.arm}: {equivalent}, if the number of seeds was fixed in advance."
        left = d.seeds_left(self.margin)
        more = f"; {left} more would show a gain of {margin} 4 times in 5" if left else ""
        return f"{self.arm}: undecided after {d.n} seeds{more}."

    def row(self) -> dict[str, object]:
        """Returns the statistics as content for JSON, where an unbounded interval is None."""
        d = self.difference
        return {
            "difference": d.mean,
            "differences": d.differences,
            "t_interval": bounded(d.t_interval),
            "bootstrap_interval": d.bootstrap_interval,
            "anytime_interval": bounded(d.anytime_interval),
            "wins": d.wins,
            "losses": d.losses,
            "sign_test": d.sign_test,
            "t_test": d.t_test,
            "t_test_holm": self.p,
            "anytime_test": d.anytime_test,
            "anytime_test_holm": self.anytime_p,
            "margin": self.margin,
            "equivalence_test": d.equivalence_test(self.margin),
            "equivalence_test_holm": self.equivalence_p,
            "anytime_equivalence_test_holm": self.anytime_equivalence_p,
            "seeds_needed": d.seeds_needed(self.margin),
            "seeds_left": d.seeds_left(self.margin),
            "verdict": self.verdict,
        }


@dataclass(frozen=True)
class Comparison:
    """The runs of a grid of arms and seeds; all other arms are compared with the first.

    Attributes:
        cells: One cell per arm and seed.
        margin: The smallest difference in accuracy that matters, in (0, 1]: arms that differ by
            less are equivalent, and seeds are counted that find it.
        diverged: Why each arm that has no cells was left out: what its run that diverged said.
    """

    cells: tuple[Cell, ...]
    margin: float = GAIN
    diverged: Mapping[Arm, str] = field(default_factory=dict)

    @property
    def arms(self) -> list[Arm]:
        """The different arms, in the order in which they were run."""
        return list(dict.fromkeys(cell.arm for cell in self.cells))

    @property
    def base(self) -> Arm:
        """The first arm."""
        return self.cells[0].arm

    def accuracies(self, arm: Arm) -> list[float]:
        """Returns the accuracies of an arm in [0, 1], one per seed, in the order of the seeds."""
        return [cell.accuracy for cell in self.of_arm(arm)]

    def of_arm(self, arm: Arm) -> list[Cell]:
        """Returns the cells of an arm, in the order of the seeds."""
        return sorted((c for c in self.cells if c.arm == arm), key=lambda c: c.seed)

    def difference(self, arm: Arm) -> PairedDifference:
        """Returns the gain in accuracy of an arm over the first one, seed by seed.

        Raises:
            InputError: If the two were not run with the same seeds.
        """
        seeds = {one: {c.seed for c in self.of_arm(one)} for one in (arm, self.base)}
        if seeds[arm] != seeds[self.base]:
            odd = min(seeds[arm] ^ seeds[self.base])
            raise InputError(
                f"seed {odd} was run with only one of {self.base} and {arm}: run it with both"
            )
        return PairedDifference.of(self.accuracies(arm), self.accuracies(self.base))

    @cached_property
    def gains(self) -> list[Gain]:
        """The gains of all arms but the first, tested together.

        Raises:
            InputError: If the arms were not run with the same seeds.
        """
        found = {arm: self.difference(arm) for arm in self.arms[1:]}
        differences = found.values()
        adjusted = zip(
            holm([d.t_test for d in differences]),
            holm([d.anytime_test for d in differences]),
            holm([d.equivalence_test(self.margin) for d in differences]),
            holm([d.anytime_equivalence_test(self.margin) for d in differences]),
            strict=True,
        )
        return [
            Gain(arm, self.base, d, *p_values, self.margin)
            for (arm, d), p_values in zip(found.items(), adjusted, strict=True)
        ]

    def rows(self) -> list[dict[str, object]]:
        """Returns one row per run and network, as columns of a table."""
        return [cell.row(k) for cell in self.cells for k in range(len(cell.accuracies))]

    def summary(self) -> list[dict[str, object]]:
        """Returns one row per arm, as content for JSON.

        Each row has the settings and the accuracy; all but the first also have the paired
        difference. The rows of arms that diverged follow, and say so instead.
        """
        gains = {gain.arm: gain.row() for gain in self.gains}
        accuracies = {arm: self.accuracies(arm) for arm in self.arms}
        of_arm: dict[Arm, dict[str, object]] = {
            arm: {
                "mean": float(np.mean(values)),
                "std": float(np.std(values, ddof=1)),
                "n": len(values),
                **gains.get(arm, {}),
            }
            for arm, values in accuracies.items()
        }
        of_arm |= {arm: {"diverged": why} for arm, why in self.diverged.items()}
        return [
            {"arm": arm.name, "settings": arm.values, "folder": arm.folder, **row}
            for arm, row in of_arm.items()
        ]


def grid(arms: Sequence[Arm], seeds: int, first: int = 0) -> list[tuple[Arm, int]]:
    """Lists pairs of arm and seed, seed by seed, so that an unfinished grid can be paired."""
    return [(arm, seed) for seed in range(first, first + seeds) for arm in arms]

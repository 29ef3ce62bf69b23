"""Paired runs: the same seeds with several lam, and what the differences say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sdc_ext.errors import InputError
from sdc_ext.evaluation.paired import PairedDifference
from sdc_ext.evaluation.results import set_columns
from sdc_ext.sets.synthetic_set import SyntheticSet

# What the table says the needed seeds for.
GAIN = 0.005


@dataclass(frozen=True)
class Cell:
    """One run: a lam, a seed and what came of it.

    Attributes:
        lam: the weight of the correction.
        seed: of everything random; runs of one seed share all but lam.
        accuracies: of the evaluation that counts, one a network, in [0, 1].
        columns: what else tables say of it: the set and the network it was evaluated with.
    """

    lam: float
    seed: int
    accuracies: tuple[float, ...]
    columns: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls, synthetic: SyntheticSet, lam: float, seed: int, evaluation: Mapping[str, Any]
    ) -> Cell:
        """Reads what a finished run has kept.

        Args:
            synthetic: The set that it distilled.
            lam: Its weight of the correction.
            seed: Its seed.
            evaluation: The one of ``synthetic.info.accuracies`` that counts.
        """
        recipe = synthetic.info.evaluation
        columns = {
            **set_columns(synthetic),
            "network": evaluation["network"],
            "epochs": recipe.epochs,
            "augmentation": recipe.augmentation,
        }
        return cls(lam, seed, tuple(evaluation["accuracies"]), columns)

    @property
    def accuracy(self) -> float:
        return float(np.mean(self.accuracies))


@dataclass(frozen=True)
class Comparison:
    """All cells of a grid of lam and seeds; the first lam is what the others are compared to."""

    cells: tuple[Cell, ...]

    @property
    def lams(self) -> list[float]:
        return list(dict.fromkeys(cell.lam for cell in self.cells))

    def accuracies(self, lam: float) -> list[float]:
        """One a seed, in the order of the seeds."""
        return [cell.accuracy for cell in self.of_lam(lam)]

    def of_lam(self, lam: float) -> list[Cell]:
        """The cells of a lam, in the order of the seeds."""
        return sorted((c for c in self.cells if c.lam == lam), key=lambda c: c.seed)

    def difference(self, lam: float) -> PairedDifference:
        """What a lam gains over the first one, seed by seed.

        Raises:
            InputError: if they were not run with the same seeds.
        """
        base = self.lams[0]
        seeds = {value: {c.seed for c in self.cells if c.lam == value} for value in (lam, base)}
        if seeds[lam] != seeds[base]:
            odd = min(seeds[lam] ^ seeds[base])
            raise InputError(f"seed {odd} was run with only one of lam {base:g} and {lam:g}")
        return PairedDifference.of(self.accuracies(lam), self.accuracies(base))

    def rows(self) -> list[dict[str, object]]:
        """A row a cell and network, for tables."""
        return [
            {
                **cell.columns,
                "lam": cell.lam,
                "seed": cell.seed,
                "index": k,
                "accuracy": accuracy,
            }
            for cell in self.cells
            for k, accuracy in enumerate(cell.accuracies)
        ]

    def summary(self) -> list[dict[str, object]]:
        """A row a lam, for JSON: accuracy and, but for the first, the paired difference."""
        return list(self._summary_rows())

    def _summary_rows(self) -> Iterable[dict[str, object]]:
        for lam in self.lams:
            values = self.accuracies(lam)
            row: dict[str, object] = {
                "lam": lam,
                "mean": float(np.mean(values)),
                "std": float(np.std(values, ddof=1)),
                "n": len(values),
            }
            if lam != self.lams[0]:
                d = self.difference(lam)
                row |= {
                    "difference": d.mean,
                    "t_interval": d.t_interval,
                    "bootstrap_interval": d.bootstrap_interval,
                    "wins": d.wins,
                    "losses": d.losses,
                    "sign_test": d.sign_test,
                    f"seeds_for_{GAIN}": d.seeds_needed(GAIN),
                }
            yield row


def grid(lams: Sequence[float], seeds: int) -> list[tuple[float, int]]:
    """The cells, seed by seed, so that what is finished can always be paired."""
    return [(lam, seed) for seed in range(seeds) for lam in lams]

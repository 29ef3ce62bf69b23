"""Comparing paired runs: several values of lam, each with the same seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sdc_ext.errors import InputError
from sdc_ext.evaluation.paired import PairedDifference
from sdc_ext.evaluation.results import set_columns
from sdc_ext.sets.synthetic_set import SyntheticSet

# The gain in accuracy for which tables give the number of seeds needed.
GAIN = 0.005


@dataclass(frozen=True)
class Cell:
    """One run of a comparison: its lam, its seed and its accuracies.

    Attributes:
        lam: The weight of the correction.
        seed: The seed of everything random; runs with the same seed share all but lam.
        accuracies: The accuracies of the evaluation that counts, one per network, in [0, 1].
        columns: Further columns for tables: the set, and the network it was evaluated with.
    """

    lam: float
    seed: int
    accuracies: tuple[float, ...]
    columns: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls, synthetic: SyntheticSet, lam: float, seed: int, evaluation: Mapping[str, Any]
    ) -> Cell:
        """Makes a cell from the set of a finished run.

        Args:
            synthetic: The distilled set.
            lam: The weight of the correction in this run.
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
        return cls(lam, seed, tuple(evaluation["accuracies"]), columns)

    @property
    def accuracy(self) -> float:
        """The mean accuracy over the networks, in [0, 1]."""
        return float(np.mean(self.accuracies))


@dataclass(frozen=True)
class Comparison:
    """The runs of a grid of lam and seeds; all other lam are compared with the first.

    Attributes:
        cells: One cell per lam and seed.
    """

    cells: tuple[Cell, ...]

    @property
    def lams(self) -> list[float]:
        """The different values of lam, in the order in which they were run."""
        return list(dict.fromkeys(cell.lam for cell in self.cells))

    def accuracies(self, lam: float) -> list[float]:
        """Returns the accuracies of a lam in [0, 1], one per seed, in the order of the seeds."""
        return [cell.accuracy for cell in self.of_lam(lam)]

    def of_lam(self, lam: float) -> list[Cell]:
        """Returns the cells of a lam, in the order of the seeds."""
        return sorted((c for c in self.cells if c.lam == lam), key=lambda c: c.seed)

    def difference(self, lam: float) -> PairedDifference:
        """Returns the gain in accuracy of a lam over the first one, seed by seed.

        Raises:
            InputError: If the two were not run with the same seeds.
        """
        base = self.lams[0]
        seeds = {value: {c.seed for c in self.cells if c.lam == value} for value in (lam, base)}
        if seeds[lam] != seeds[base]:
            odd = min(seeds[lam] ^ seeds[base])
            raise InputError(
                f"seed {odd} was run with only one of lam {base:g} and {lam:g}: run it with both"
            )
        return PairedDifference.of(self.accuracies(lam), self.accuracies(base))

    def rows(self) -> list[dict[str, object]]:
        """Returns one row per run and network, as columns of a table."""
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
        """Returns one row per lam, as content for JSON.

        Each row has the accuracy; all but the first also have the paired difference.
        """
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
    """Lists pairs of lam and seed, seed by seed, so that an unfinished grid can be paired."""
    return [(lam, seed) for seed in range(seeds) for lam in lams]

"""Paired runs: the same seeds with several lam, and what the differences say."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sdc_ext.paired import PairedDifference
from sdc_ext.synthetic import SyntheticSet

# What the table says the needed seeds for.
GAIN = 0.005


@dataclass(frozen=True)
class Cell:
    """One run: a lam, a seed and what came of it.

    Attributes:
        lam: the weight of the correction.
        seed: of everything random; runs of one seed share all but lam.
        accuracies: of the evaluation that counts, one a network, in [0, 1].
    """

    lam: float
    seed: int
    accuracies: tuple[float, ...]

    @classmethod
    def of(cls, synthetic: SyntheticSet, lam: float, seed: int, counts: str) -> Cell:
        """Reads what a finished run has kept.

        Args:
            synthetic: its set.
            lam: its weight.
            seed: its seed.
            counts: which evaluation counts, ``"last"`` or ``"best"``.
        """
        rows = synthetic.info.accuracies
        row = rows[-1] if counts == "last" else max(rows, key=lambda r: float(r["mean"]))
        return cls(lam, seed, tuple(row["accuracies"]))

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
        of_lam = sorted((c for c in self.cells if c.lam == lam), key=lambda c: c.seed)
        return [cell.accuracy for cell in of_lam]

    def difference(self, lam: float) -> PairedDifference:
        """What a lam gains over the first one."""
        return PairedDifference.of(self.accuracies(lam), self.accuracies(self.lams[0]))

    def write_csv(self, path: Path) -> None:
        """Writes a row a cell and network."""
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["lam", "seed", "network", "accuracy"])
            for cell in self.cells:
                for k, accuracy in enumerate(cell.accuracies):
                    writer.writerow([cell.lam, cell.seed, k, accuracy])

    def summary(self) -> list[dict[str, object]]:
        """A row a lam, for JSON: accuracy and, but for the first, the paired difference."""
        return list(self._rows())

    def _rows(self) -> Iterable[dict[str, object]]:
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

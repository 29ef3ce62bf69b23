"""A distilled set with the history of its run, as reports show it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from sdc_ext.evaluation.tracking import Drift, warm_up
from sdc_ext.sets.info import EvaluationRow, SetInfo
from sdc_ext.sets.synthetic_set import SyntheticSet

# Method, data set, ipc, factor and network.
Kind: TypeAlias = tuple[str, str, int, int, str]


@dataclass(frozen=True)
class Run:
    """A distilled set with the history of its run.

    Attributes:
        name: The name of the set on the page.
        synthetic: The set.
        history: The logged values over iterations, by column; empty for sets not made by a run.
        folder: The folder of the set.
    """

    name: str
    synthetic: SyntheticSet
    history: dict[str, list[float]]
    folder: Path

    @property
    def info(self) -> SetInfo:
        """The description of the set."""
        return self.synthetic.info

    @property
    def skip(self) -> int:
        """The number of iterations at the start whose GraDN is not comparable with the rest."""
        return warm_up(self.info, len(self.history["difficulty"]))

    @property
    def drift(self) -> Drift:
        """The change of GraDN over the run."""
        return Drift.of(self.history["difficulty"], self.skip)

    @property
    def evaluations(self) -> list[EvaluationRow]:
        """The evaluations of the images themselves, in order, and not of their moving average."""
        return [row for row in self.info.accuracies if row.get("of", "images") == "images"]

    @property
    def kind(self) -> Kind:
        """What is equal if only the correction and the seed differ."""
        info = self.info
        return info.method, info.dataset, info.ipc, info.factor, info.network

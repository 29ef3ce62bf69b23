"""Distilled sets with the history of their runs, as reports show and group them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from sdc_ext.evaluation.tracking import Drift, warm_up
from sdc_ext.sets.info import Correction, EvaluationRow, SetInfo
from sdc_ext.sets.synthetic_set import SyntheticSet
from sdc_ext.strength import STRENGTHS

# Method, data set, ipc, factor and network.
Kind: TypeAlias = tuple[str, str, int, int, str]

# What the correction says, and the seed.
_NO_CHOICES = {*STRENGTHS, "tau", "tau_quantile", "seed"}


class RunArm(NamedTuple):
    """What runs share that differ only in the seed.

    Attributes:
        correction: The correction.
        others: The names and values of other settings that tell the arm from others.
    """

    correction: Correction
    others: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return ", ".join([str(self.correction), *map(" ".join, self.others)])


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
        """What runs share that a page shows side by side."""
        info = self.info
        return info.method, info.dataset, info.ipc, info.factor, info.network

    @property
    def choices(self) -> dict[str, str]:
        """What made the set besides the method, the correction and the seed, as text by name."""
        names = ("data", "ipc", "factor", "network")
        found: dict[str, Any] = dict(zip(names, self.kind[1:], strict=True))
        found |= {name: setting["value"] for name, setting in self.info.settings.items()}
        return {name: shown(found[name]) for name in found if name not in _NO_CHOICES}


def by_arm(runs: Sequence[Run]) -> dict[RunArm, list[Run]]:
    """Sorts runs of one method into arms, which name the settings that tell them apart.

    What follows from a setting that is named already is not named. Sets of earlier versions may
    lack a setting, which is no difference.
    """
    choices = [run.choices for run in runs]
    others: list[tuple[tuple[str, str], ...]] = [()] * len(runs)
    for name in dict.fromkeys(chain.from_iterable(choices)):
        known = {one[name] for one in choices if name in one}
        values = ((name, one.get(name, "unknown")) for one in choices)
        finer = [(*named, value) for named, value in zip(others, values, strict=True)]
        if len(known) > 1 and len(set(finer)) > len(set(others)):
            others = finer
    found: dict[RunArm, list[Run]] = {}
    for run, named in zip(runs, others, strict=True):
        found.setdefault(RunArm(run.info.correction, named), []).append(run)
    return found


def shown(value: Any) -> str:
    """Returns the value of a setting as text; empty for None."""
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)

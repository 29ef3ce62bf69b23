"""The rows of a reproduced table: what was published, and what came out here."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from sdc_ext.evaluation.arms import Arm
from sdc_ext.evaluation.comparison import Comparison
from sdc_ext.evaluation.paired import PairedDifference
from sdc_ext.evaluation.tracking import Drift
from sdc_ext.reproduction.items import Cell, Item
from sdc_ext.reproduction.published import Accuracy, Published, published_cells


@dataclass(frozen=True)
class CellResult:
    """What came out for one cell.

    Attributes:
        comparison: The accuracies of the networks that the sets were distilled with.
        shares: The mean share of the correction by arm; NaN where it was not measured.
        drifts: The changes of GraDN over the runs by arm, one per seed.
        others: The accuracies in [0, 1] of other networks, by network and arm, one per seed.
    """

    comparison: Comparison
    shares: Mapping[Arm, float]
    drifts: Mapping[Arm, Sequence[Drift]]
    others: Mapping[str, Mapping[Arm, Sequence[float]]]

    def accuracies(self, network: str) -> Mapping[Arm, Sequence[float]]:
        """Returns the accuracies by arm, one per seed; ``""`` stands for the network of the run."""
        if network:
            return self.others.get(network, {})
        return {arm: self.comparison.accuracies(arm) for arm in self.comparison.arms}


@dataclass(frozen=True)
class Row:
    """One arm of a cell.

    Attributes:
        cell: The setting.
        network: The network that was trained, if not the one that the set was distilled with.
        arm: The strength of the correction.
        paper: The paper's accuracy, if it has one for this arm.
        original: The accuracy that the authors of the method published, for the plain method.
        data: The label of the data of the runs here; empty without runs.
        here: The accuracies in [0, 1] of the runs here, one per seed; empty without runs.
        gain: The paired differences to the first arm; None for that arm and without runs.
        share: The mean share of the correction; NaN where it was not measured.
        drifts: The changes of GraDN over the runs here, one per seed.
    """

    cell: Cell
    network: str
    arm: Arm
    paper: Accuracy | None
    original: Accuracy | None
    data: str = ""
    here: Sequence[float] = ()
    gain: PairedDifference | None = None
    share: float = math.nan
    drifts: Sequence[Drift] = ()

    @property
    def drift(self) -> str:
        """The change of GraDN from the first to the last tenth, and in how many runs it rose."""
        if not self.drifts:
            return ""
        rose = sum(drift.last > drift.first for drift in self.drifts)
        return f"{Drift.mean(self.drifts)}, rose in {rose} of {len(self.drifts)}"

    def content(self) -> dict[str, Any]:
        """Returns the row as content for JSON: accuracies in percent, gains in points."""
        found: dict[str, Any] = {
            "method": self.cell.method,
            "dataset": self.cell.dataset,
            "data": self.data,
            "ipc": self.cell.ipc,
            "network": self.network,
            "arm": self.arm.name,
            "paper": None if self.paper is None else self.paper.mean,
            "original": None if self.original is None else self.original.mean,
            "here": 100 * fmean(self.here) if self.here else None,
            "std": 100 * stdev(self.here) if len(self.here) > 1 else None,
            "n": len(self.here),
            "gain": None,
            "low": None,
            "high": None,
            "gradn_first": fmean(d.first for d in self.drifts) if self.drifts else None,
            "gradn_last": fmean(d.last for d in self.drifts) if self.drifts else None,
            "share": None if math.isnan(self.share) else self.share,
        }
        if self.gain is not None:
            found["gain"] = 100 * self.gain.mean
            if self.gain.varies:
                found["low"], found["high"] = (100 * bound for bound in self.gain.t_interval)
        return found


def rows_of(
    item: Item,
    results: Mapping[Cell, CellResult],
    iterations: Mapping[Cell, int],
    data: Mapping[str, str],
) -> list[Row]:
    """Returns all rows of a table or figure; cells without runs have the published numbers alone.

    Args:
        item: The table or figure.
        results: What came out, by cell.
        iterations: The numbers of iterations by cell, which ramps depend on.
        data: The labels of the data here, by the name of the paper's data set.
    """
    known = {(c.method, c.dataset, c.ipc, c.network): c for c in published_cells()}
    found: list[Row] = []
    for cell in item.cells:
        arms = [Arm.of(values) for values in item.arms(cell, iterations.get(cell, 1))]
        for network in item.networks or ("",):
            said = known.get((cell.method, cell.dataset, cell.ipc, network))
            used = data.get(cell.dataset, "")
            found += _rows(cell, network, arms, said, results.get(cell), used)
    return found


def _rows(
    cell: Cell,
    network: str,
    arms: Sequence[Arm],
    said: Published | None,
    result: CellResult | None,
    data: str,
) -> Iterator[Row]:
    accuracies = {} if result is None else result.accuracies(network)
    base = accuracies.get(arms[0], ())
    for arm in arms:
        paper = original = None
        if said is not None and arm == arms[0]:
            paper, original = said.plain, said.original
        elif said is not None and arm == Arm.of({"lam": cell.lam}):
            paper = said.corrected
        here = accuracies.get(arm, ())
        compared = arm != arms[0] and bool(here) and bool(base)
        gain = PairedDifference.of(here, base) if compared else None
        share = math.nan if result is None else result.shares.get(arm, math.nan)
        drifts = () if result is None else result.drifts.get(arm, ())
        used = data if here else ""
        yield Row(cell, network, arm, paper, original, used, here, gain, share, drifts)

"""Evaluations of distilled sets on several networks, as tables for other programs."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdc_ext.evaluate import Evaluation
from sdc_ext.synthetic import SyntheticSet


@dataclass(frozen=True)
class Result:
    """One set, evaluated on one network.

    Attributes:
        name: what the user calls the set.
        synthetic: the set.
        evaluation: its accuracies.
    """

    name: str
    synthetic: SyntheticSet
    evaluation: Evaluation

    def row(self) -> dict[str, Any]:
        """What is the same for all its networks."""
        info = self.synthetic.info
        return {
            "set": self.name,
            "method": info.method,
            "dataset": info.dataset,
            "ipc": info.ipc,
            "images": len(self.synthetic.images),
            "correction": info.correction,
            "network": self.evaluation.network,
        }


def write_csv(results: Sequence[Result], path: Path) -> None:
    """Writes a row a set and trained network, with its accuracy in [0, 1]."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*results[0].row(), "k", "accuracy"])
        writer.writeheader()
        for result in results:
            for k, accuracy in enumerate(result.evaluation.accuracies):
                writer.writerow({**result.row(), "k": k, "accuracy": accuracy})


def as_json(results: Sequence[Result]) -> list[dict[str, Any]]:
    """A row a set and architecture: mean, standard deviation and every accuracy."""
    rows = []
    for result in results:
        e = result.evaluation
        statistics = {"mean": e.mean, "std": e.std, "accuracies": list(e.accuracies)}
        rows.append({**result.row(), **statistics})
    return rows


def short_names(paths: Sequence[Path]) -> list[str]:
    """Names of sets without what their paths have in common at the front."""
    if len(paths) == 1:
        return [paths[0].name]
    parts = [path.parts for path in paths]
    same = 0
    while len({p[same : same + 1] for p in parts}) == 1 and all(len(p) > same + 1 for p in parts):
        same += 1
    return ["/".join(p[same:]) for p in parts]

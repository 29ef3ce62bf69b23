"""Evaluations of distilled sets on several networks, as tables for other programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sdc_ext.sets.info import Evaluation
from sdc_ext.sets.synthetic_set import SyntheticSet
from sdc_ext.training.recipe import TrainingRecipe


@dataclass(frozen=True)
class Result:
    """One set, evaluated on one architecture.

    Attributes:
        name: what the user calls the set.
        synthetic: the set.
        recipe: how networks were trained on it.
        seed: of the networks.
        evaluation: their accuracies.
    """

    name: str
    synthetic: SyntheticSet
    recipe: TrainingRecipe
    seed: int
    evaluation: Evaluation

    def row(self) -> dict[str, Any]:
        """What was evaluated and how, for tables."""
        return {
            "set": self.name,
            **origin(self.synthetic),
            "network": self.evaluation.network,
            "epochs": self.recipe.epochs,
            "lr": self.recipe.lr,
            "augmentation": self.recipe.augmentation,
            "seed": self.seed,
        }


def origin(synthetic: SyntheticSet) -> dict[str, Any]:
    """What a set is and how it was made, for tables."""
    info = synthetic.info
    return {
        "method": info.method,
        "dataset": info.dataset,
        "ipc": info.ipc,
        "images": len(synthetic.images),
        "correction": info.correction,
    }


def as_rows(results: Sequence[Result]) -> list[dict[str, Any]]:
    """A row a trained network, with its index and its accuracy in [0, 1]."""
    return [
        {**result.row(), "index": k, "accuracy": accuracy}
        for result in results
        for k, accuracy in enumerate(result.evaluation.accuracies)
    ]


def as_json(results: Sequence[Result]) -> list[dict[str, Any]]:
    """A row a set and architecture: mean, standard deviation and every accuracy."""
    rows = []
    for result in results:
        e = result.evaluation
        statistics = {"mean": e.mean, "std": e.std, "accuracies": list(e.accuracies)}
        rows.append({**result.row(), **statistics})
    return rows


# The method of networks that were trained on all real images.
REAL = "real"

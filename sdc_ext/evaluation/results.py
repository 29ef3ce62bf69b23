"""Evaluations of distilled sets on several networks, as tables for other programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from sdc_ext.errors import check_choice
from sdc_ext.sets.info import Evaluation
from sdc_ext.sets.synthetic_set import SyntheticSet
from sdc_ext.training.recipe import TrainingRecipe

# Which of a run's evaluations counts.
Selects: TypeAlias = Literal["last", "best"]

# The method of networks that were trained on all real images.
REAL = "real"


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
            **set_columns(self.synthetic),
            "network": self.evaluation.network,
            "epochs": self.recipe.epochs,
            "lr": self.recipe.lr,
            "augmentation": self.recipe.augmentation,
            "seed": self.seed,
        }


def set_columns(synthetic: SyntheticSet) -> dict[str, Any]:
    """What a set is and how it was made, for tables."""
    info = synthetic.info
    return {
        "method": info.method,
        "dataset": info.dataset,
        "ipc": info.ipc,
        "images": len(synthetic.images),
        "correction": info.correction,
    }


def counted(evaluations: Sequence[Mapping[str, Any]], selects: Selects) -> Mapping[str, Any]:
    """The evaluation of a run that counts; of equally good ones, the first.

    Args:
        evaluations: At least one, in order, each with its mean accuracy as ``mean``.
        selects: ``"last"``, or ``"best"`` for the one with the highest mean.

    Raises:
        InputError: If ``selects`` is neither.
    """
    check_choice("evaluation to select", selects, get_args(Selects))
    if selects == "last":
        return evaluations[-1]
    return max(evaluations, key=lambda row: float(row["mean"]))


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

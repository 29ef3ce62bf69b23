"""Evaluations of distilled sets on several networks, as tables for other programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args, overload

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

    def __str__(self) -> str:
        return f"{self.name}, {self.evaluation.network}: {self.evaluation}"


@dataclass(frozen=True)
class Results(Sequence[Result]):
    """Several results, as a sequence and as tables.

    Attributes:
        results: One for each set and architecture.
    """

    results: tuple[Result, ...] = ()

    @overload
    def __getitem__(self, index: int) -> Result: ...

    @overload
    def __getitem__(self, index: slice) -> Results: ...

    def __getitem__(self, index: int | slice) -> Result | Results:
        chosen = self.results[index]
        return Results(chosen) if isinstance(chosen, tuple) else chosen

    def __len__(self) -> int:
        return len(self.results)

    def rows(self) -> list[dict[str, Any]]:
        """One row per trained network, with its index and its accuracy in [0, 1]."""
        return [
            {**result.row(), "index": k, "accuracy": accuracy}
            for result in self
            for k, accuracy in enumerate(result.evaluation.accuracies)
        ]

    def summary(self) -> list[dict[str, Any]]:
        """One row per set and architecture: mean, standard deviation and every accuracy."""
        rows = []
        for result in self:
            e = result.evaluation
            statistics = {"mean": e.mean, "std": e.std, "accuracies": list(e.accuracies)}
            rows.append({**result.row(), **statistics})
        return rows

    def __str__(self) -> str:
        return "\n".join(map(str, self))


def set_columns(synthetic: SyntheticSet) -> dict[str, Any]:
    """What a set is and how it was made, for tables."""
    info = synthetic.info
    return {
        "method": info.method,
        "dataset": info.dataset,
        "ipc": info.ipc,
        "images": len(synthetic.images),
        "correction": str(info.correction),
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

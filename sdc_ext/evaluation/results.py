"""Results of evaluations on several networks, and their rows in tables for other programs."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args, overload

from sdc_ext._options import YOUR_CHOICE
from sdc_ext.errors import InputError, check_choice
from sdc_ext.sets.info import Evaluation, EvaluationRow
from sdc_ext.sets.synthetic_set import SyntheticSet
from sdc_ext.strength import STRENGTHS
from sdc_ext.training.recipe import TrainingRecipe

# The evaluation of a run that counts.
Selects: TypeAlias = Literal["last", "best"]

# The method that tables name for networks trained on all real images.
REAL = "real"

# Settings of a run that columns of their own name.
_WITH_COLUMNS = {*STRENGTHS, "tau", "tau_quantile", "network", "seed", "factor", "zca"}


@dataclass(frozen=True)
class Result:
    """The result of evaluating one set on one architecture.

    Attributes:
        name: The user's name for the set.
        synthetic: The set.
        recipe: The recipe by which networks were trained on it.
        seed: The seed of the networks.
        evaluation: The networks' test accuracies.
        teacher: The network that labelled the set's images; empty if they kept their labels.
    """

    name: str
    synthetic: SyntheticSet
    recipe: TrainingRecipe
    seed: int
    evaluation: Evaluation
    teacher: str = ""

    def row(self) -> dict[str, Any]:
        """Returns what was evaluated and how, as columns of a table."""
        return {
            "set": self.name,
            **set_columns(self.synthetic),
            "network": self.evaluation.network,
            "epochs": self.recipe.epochs,
            "lr": self.recipe.lr,
            "augmentation": self.recipe.augmentation,
            "optimizer": self.recipe.optimizer,
            "schedule": self.recipe.schedule,
            "mix": self.recipe.mix,
            "label_loss": self.recipe.label_loss,
            "temperature": self.recipe.temperature,
            "teacher": self.teacher,
            "seed": self.seed,
        }

    def __str__(self) -> str:
        return f"{self.name}, {self.evaluation.network}: {self.evaluation}"


@dataclass(frozen=True)
class Results(Sequence[Result]):
    """A sequence of results that can be turned into tables.

    Attributes:
        results: One result per set and architecture.
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
        """Returns one row per trained network, with its index and its accuracy in [0, 1]."""
        return [
            {**result.row(), "index": k, "accuracy": accuracy}
            for result in self
            for k, accuracy in enumerate(result.evaluation.accuracies)
        ]

    def summary(self) -> list[dict[str, Any]]:
        """Returns one row per set and architecture: mean, standard deviation, all accuracies."""
        rows = []
        for result in self:
            e = result.evaluation
            statistics = {"mean": e.mean, "std": e.std, "accuracies": list(e.accuracies)}
            rows.append({**result.row(), **statistics})
        return rows

    def __str__(self) -> str:
        return "\n".join(map(str, self))


def set_columns(synthetic: SyntheticSet) -> dict[str, Any]:
    """Returns what a set is and how it was made, as columns of a table."""
    info = synthetic.info
    chosen = (
        f"{name}={setting['value']}"
        for name, setting in info.settings.items()
        if setting["source"] == YOUR_CHOICE and name not in _WITH_COLUMNS
    )
    return {
        "method": info.method,
        "dataset": info.dataset,
        "ipc": info.ipc,
        "images": len(synthetic.images),
        "correction": str(info.correction),
        "distilled_with": info.network,
        "distilled_seed": info.value("seed"),
        "distilled_settings": "; ".join(chosen),
        "factor": info.factor,
        "whitening": "none" if info.whitening is None else "zca",
    }


def check_names(sets: Iterable[str], of_real: Collection[str]) -> None:
    """Refuses sets that are called what tables call real images.

    Args:
        sets: The names of the sets.
        of_real: The names of real images in the same table.

    Raises:
        InputError: If a set has one of these names.
    """
    for name in sets:
        if name in of_real:
            raise InputError(f"{name!r} stands for real images here: give the set another name")


def select_evaluation(evaluations: Sequence[EvaluationRow], selects: Selects) -> EvaluationRow:
    """Returns the evaluation of a run that counts; of several equally good ones, the first.

    Args:
        evaluations: At least one evaluation, in order.
        selects: ``"last"``, or ``"best"`` for the highest mean accuracy.

    Raises:
        InputError: If ``selects`` is neither.
    """
    check_choice("evaluation to select", selects, get_args(Selects))
    if selects == "last":
        return evaluations[-1]
    return max(evaluations, key=lambda row: row["mean"])


def counted(evaluations: Sequence[EvaluationRow], selects: Selects) -> EvaluationRow:
    """Returns the same as ``select_evaluation``, and warns that it is called this now."""
    message = "`counted` goes away in the next version: call `select_evaluation`, which it became"
    warnings.warn(message, FutureWarning, stacklevel=2)
    return select_evaluation(evaluations, selects)

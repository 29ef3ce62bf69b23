"""How accuracies of sets spread over configurations: networks, optimisers and augmentations."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sdc_ext.evaluation.configurations import configuration_of
from sdc_ext.evaluation.results import Result
from sdc_ext.sets.info import Evaluation


@dataclass(frozen=True)
class Spread:
    """The accuracies of one set over several configurations.

    Attributes:
        name: The name of the set.
        evaluations: The accuracies by configuration, at least two.
    """

    name: str
    evaluations: dict[str, Evaluation]

    @property
    def worst(self) -> str:
        """The configuration with the lowest mean accuracy."""
        return min(self.evaluations, key=lambda name: self.evaluations[name].mean)

    @property
    def best(self) -> str:
        """The configuration with the highest mean accuracy."""
        return max(self.evaluations, key=lambda name: self.evaluations[name].mean)

    @property
    def mean(self) -> float:
        """The mean over configurations, in [0, 1]."""
        return statistics.fmean(e.mean for e in self.evaluations.values())

    @property
    def std(self) -> float:
        """The sample standard deviation of the configurations' means."""
        return statistics.stdev(e.mean for e in self.evaluations.values())

    def row(self) -> dict[str, Any]:
        """Returns the spread as columns of a table."""
        return {
            "set": self.name,
            "configurations": len(self.evaluations),
            "worst": self.evaluations[self.worst].mean,
            "worst_at": self.worst,
            "mean": self.mean,
            "best": self.evaluations[self.best].mean,
            "best_at": self.best,
            "std": self.std,
        }


def configuration_names(results: Sequence[Result]) -> list[str]:
    """Returns a name for the configuration of each result: the network, and what else varies.

    Optimiser and augmentation are part of the names if a set was evaluated with several of them on
    one network.
    """
    found = [configuration_of(r.evaluation.network, r.recipe) for r in results]
    on_network: dict[tuple[str, str], list[tuple[str, ...]]] = {}
    for result, one in zip(results, found, strict=True):
        on_network.setdefault((result.name, one[0]), []).append(one)
    varies = [n for n in (1, 2) if any(len({o[n] for o in of}) > 1 for of in on_network.values())]
    return [", ".join([one[0], *(one[n] for n in varies)]) for one in found]


def spreads(results: Sequence[Result]) -> list[Spread]:
    """Returns the spread of every set that was evaluated in several configurations."""
    found: dict[str, dict[str, Evaluation]] = {}
    for result, configuration in zip(results, configuration_names(results), strict=True):
        found.setdefault(result.name, {})[configuration] = result.evaluation
    return [Spread(name, of_set) for name, of_set in found.items() if len(of_set) > 1]

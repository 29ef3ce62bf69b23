"""The verb that scores a distilled set: the worth of its images without soft labels and chance."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from rich.console import RenderableType

from sdc_ext._files import as_text, write_whole
from sdc_ext._values import Count, Rate, Seed, checked
from sdc_ext.errors import InputError
from sdc_ext.evaluation.scores import Scored, measure_scores
from sdc_ext.report.shown import Shown
from sdc_ext.report.tables import evaluation_table, score_table
from sdc_ext.verbs.opening import OneSet, open_sets
from sdc_ext.verbs.session import make_accelerator, make_console, network_names
from sdc_ext.workers import choose_workers

_TRAINED_ON = {
    "own": "the set",
    "hard": "the set, hard labels",
    "random": "random real images",
    "full": "all real images",
    "own_augmented": "the set, augmented",
    "random_augmented": "random real images, augmented",
    "own_plain": "the set, not augmented",
    "random_plain": "random real images, not augmented",
}


@dataclass(frozen=True, repr=False)
class ScoredSet(Shown):
    """The scores of a set and how they were measured; they print as tables.

    Attributes:
        scored: The scores and the accuracies behind them.
        name: The name of the set.
        dataset: The name of the real data.
        network: The architecture of the trained networks.
        seed: The seed of the networks and of the random images.
        full_epochs: The number of epochs on all real images.
    """

    scored: Scored
    name: str
    dataset: str
    network: str
    seed: int
    full_epochs: int

    def tables(self) -> Sequence[RenderableType]:
        """Returns the table of accuracies and the table of scores."""
        named = {_TRAINED_ON[name]: e for name, e in self.scored.accuracies.items()}
        title = f"{self.network} on {self.dataset}"
        return evaluation_table(title, named), score_table(self.scored.scores)

    def save(self, path: str | Path) -> None:
        """Writes scores, accuracies and settings to a JSON file."""
        scored = self.scored
        content = {
            "set": self.name,
            "network": self.network,
            "seed": self.seed,
            "full_epochs": self.full_epochs,
            "evaluation": asdict(scored.recipe),
            "accuracies": {name: list(e.accuracies) for name, e in scored.accuracies.items()},
            **asdict(scored.scores),
        }
        write_whole(Path(path), as_text(json.dumps(content, indent=1)))


@checked
def score_set(
    synthetic: OneSet,
    data: Any = None,
    *,
    network: str | Callable[..., Any] | None = None,
    num_eval: Count = 5,
    full_epochs: Count = 20,
    lr: Rate | None = None,
    seed: Seed = 0,
    workers: Any = 1,
    accelerator: Accelerator | None = None,
    progress: bool = True,
) -> ScoredSet:
    """Scores a set by networks trained on it, on random real images and on all real images.

    Args:
        synthetic: A [`SyntheticSet`][sdc_ext.sets.SyntheticSet], or the path of one.
        data: The real data; see [`evaluate_set`][sdc_ext.evaluate_set].
        network: The architecture, as a name or a function; by default the one that the set was
            evaluated with.
        num_eval: The number of networks to train on each training set.
        full_epochs: The number of epochs on all real images.
        lr: The learning rate for training on the set; by default the one that it names.
        seed: Seeds the networks and the choice of random images.
        workers: The number of processes that train networks side by side, each with one thread, or
            an executor; see [`choose_workers`][sdc_ext.workers.choose_workers].
        accelerator: The Accelerator to run with; by default one that uses the machine's devices.
        progress: Show what is being trained.

    Returns:
        Hard-label recovery, improvement over random, the label-robust and the augmentation-robust
        score, which print as tables.

    Raises:
        InputError: If the set cannot be read or does not fit the data, there are several sets or
            networks, or a number is not above 0.

    Reference: DD-Ranking (Li et al., 2025).
    """
    accelerator = accelerator or make_accelerator()
    console = make_console(accelerator, progress)
    chosen = choose_workers(workers, launched=accelerator.num_processes)
    opened, *more = open_sets(synthetic, data, accelerator, lr=lr)
    name, *others = network_names(network) or [opened.synthetic.info.eval_network]
    if more or others:
        raise InputError(
            f"one set is scored with one network, got {1 + len(more)} and {1 + len(others)}: pass "
            "others in separate calls"
        )
    with console.status("") as status:
        scored = measure_scores(
            opened.synthetic,
            opened.data,
            network=name,
            num_eval=num_eval,
            full_epochs=full_epochs,
            seed=seed,
            accelerator=accelerator,
            workers=chosen,
            say=console.print,
            on_training=lambda what: status.update(
                f"training {num_eval} {name} on {_TRAINED_ON[what]}"
            ),
        )
    return ScoredSet(scored, opened.name, opened.data.name, name, seed, full_epochs)

"""Fits the runs of a cell into the time that a budget leaves for each of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from sdc_ext.adapters import Settings

# Networks trained for fewer epochs have hardly begun to learn.
_FEWEST_EPOCHS = 20

# The part of a run's time that its evaluations may take.
_FOR_EVALUATION = 1 / 3


@dataclass(frozen=True)
class Pace:
    """How long the parts of a run take, in seconds.

    Attributes:
        step: One update of the images: an iteration, or one of its outer steps if it has several.
        test: Testing an evaluation network, and what goes with it.
        epoch: One epoch of an evaluation network on the distilled set.
        other_test: Testing one network of each other architecture.
        other_epoch: One epoch of each of these networks.
    """

    step: float
    test: float
    epoch: float
    other_test: float = 0.0
    other_epoch: float = 0.0


@dataclass(frozen=True)
class Fitted:
    """What the time allows for a run.

    Attributes:
        iterations: The number of iterations.
        settings: Further settings that differ from those in effect, by name.
        other_epochs: The number of epochs of the networks of other architectures.
        seconds: How long the run is expected to take.
    """

    iterations: int
    settings: dict[str, Any]
    other_epochs: int
    seconds: float


def steps_of(settings: Settings) -> int:
    """Returns the number of updates of the images per iteration; above 1 in gradient matching."""
    return int(getattr(settings.loop, "outer_loop", 1))


def fit(settings: Settings, pace: Pace, seconds: float, fewest: int = 1) -> Fitted | None:
    """Shortens a run so that it fits into a time; what fits unshortened stays as it is.

    A third of the time goes to the evaluation. Where the iterations are too long, they make fewer
    outer steps.

    Args:
        settings: The settings of the unshortened run.
        pace: How long its parts take.
        seconds: The time for the run.
        fewest: The fewest iterations of a run that says something.

    Returns:
        What fits; None if not even the shortest sensible run does.
    """
    if seconds < shortest(settings, pace, fewest):
        return None
    run = settings.run
    others = pace.other_test + pace.other_epoch > 0
    evaluated = seconds * _FOR_EVALUATION / (2 if others else 1)
    epochs = _epochs(evaluated / run.num_eval, pace.test, pace.epoch, run.epoch_eval_train)
    other_epochs = 0
    if others:
        most = run.epoch_eval_train
        other_epochs = _epochs(evaluated, pace.other_test, pace.other_epoch, most)
    used = run.num_eval * (pace.test + epochs * pace.epoch)
    used += pace.other_test + other_epochs * pace.other_epoch
    steps = max(fewest, math.floor((seconds - used) / pace.step))
    per_iteration = steps_of(settings)
    iterations = min(run.iterations, steps // per_iteration)
    shortened: dict[str, Any] = {"epoch_eval_train": epochs}
    if iterations < fewest:
        iterations, per_iteration = fewest, steps // fewest
        shortened["outer_loop"] = per_iteration
    shortened |= {**_grown(settings, iterations), "eval_every": iterations}
    total = used + iterations * per_iteration * pace.step
    return Fitted(iterations, shortened, other_epochs, total)


def shortest(settings: Settings, pace: Pace, fewest: int = 1) -> float:
    """Returns the seconds of the shortest sensible run.

    Args:
        settings: The settings of the unshortened run.
        pace: How long its parts take.
        fewest: The number of iterations, of one step each. Networks are trained for 20 epochs.
    """
    networks = settings.run.num_eval
    epochs = min(_FEWEST_EPOCHS, settings.run.epoch_eval_train)
    tests = networks * pace.test + pace.other_test
    return fewest * pace.step + tests + epochs * (networks * pace.epoch + pace.other_epoch)


def _epochs(seconds: float, test: float, epoch: float, most: int) -> int:
    """Returns how many epochs fit, but no more than the original's and no fewer than the fewest."""
    fitting = math.floor((seconds - test) / epoch)
    return min(most, max(_FEWEST_EPOCHS, fitting))


def _grown(settings: Settings, iterations: int) -> dict[str, Any]:
    """Lets the start epochs of a shortened run grow over the same part of it."""
    growth = int(getattr(settings.loop, "expansion_end_epoch", 0))
    if growth == 0:
        return {}
    return {"expansion_end_epoch": max(1, round(growth * iterations / settings.run.iterations))}


def fit_experts(settings: Settings, epochs: int) -> dict[str, Any]:
    """Returns the settings with which shorter expert trajectories suffice, where they differ.

    Args:
        settings: The settings of the unshortened run of a method that matches trajectories.
        epochs: The number of epochs that the experts have, at least that of ``expert_epochs``.
    """
    loop: Any = settings.loop
    limit = epochs + 1 - loop.expert_epochs
    earliest = min(loop.min_start_epoch, limit - 1)
    fitting = {
        "max_start_epoch": min(loop.max_start_epoch, limit),
        "min_start_epoch": earliest,
        "current_max_start_epoch": min(loop.current_max_start_epoch, limit),
    }
    return {
        name: value
        for name, value in fitting.items()
        if value != getattr(loop, name) and name not in loop.unused
    }

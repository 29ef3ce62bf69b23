"""Showing the progress of a run on the terminal."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn

from sdc_ext._console import Words, make_progress
from sdc_ext.adapters.base import State
from sdc_ext.engine.callbacks import Callback
from sdc_ext.evaluation.tracking import Action
from sdc_ext.sets.info import Evaluation

# The number of iterations after which the time of the rest is estimated; the first one is slow.
_FIRST = 3

_DAY = 24 * 60 * 60


class ShowProgress(Callback):
    """Shows a progress bar, and prints a line for every evaluation and every skipped update.

    A run that will take longer than a day gets a line that says so, after its first iterations.

    Args:
        console: The console to print to. A quiet one, e.g. in a process other than the main one,
            shows nothing.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = make_progress(
            console,
            Words("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            Words("{task.fields[log]}"),
            TimeRemainingColumn(),
        )

    def on_start(self, iteration: int, iterations: int) -> None:
        """Starts the bar, at the right place if the run is resumed."""
        if iteration > 0:
            self._console.print(f"resumed at iteration {iteration}")
        self._bar = self._progress.add_task("distilling", total=iterations, log="")
        self._progress.update(self._bar, completed=iteration)
        self._progress.start()
        self._remaining = iterations - iteration
        self._estimate_after = iteration + _FIRST
        self._started = time.monotonic()

    def on_note(self, note: str) -> None:
        """Prints the note."""
        self._console.print(note)

    def on_step(self, iteration: int, log: Mapping[str, float], state: State) -> None:
        """Moves the bar on, and shows the matching loss and GraDN beside it."""
        del state
        text = f"loss {log['matching']:.4g}  GraDN {log['difficulty']:.3g}"
        text += "  (skipped)" if log.get("skipped") else ""
        self._progress.update(self._bar, completed=iteration, log=text)
        if iteration == self._estimate_after:
            self._warn_if_long()

    def _warn_if_long(self) -> None:
        """Prints how long the run will take, if that is longer than a person expects."""
        each = (time.monotonic() - self._started) / _FIRST
        days = each * self._remaining / _DAY
        if days > 1:
            self._console.print(
                f"{self._remaining} iterations of {each:.2g} s will take about {days:.3g} days "
                "or more; Ctrl-C stops the run, which keeps what it has"
            )

    def on_skip(self, iteration: int, error: Exception) -> None:
        """Prints why an update was skipped."""
        self._console.print(f"iteration {iteration} skipped: {error}")

    def on_evaluation(self, iteration: int, evaluations: Mapping[str, Evaluation]) -> None:
        """Prints the accuracy of every candidate."""
        for name, evaluation in evaluations.items():
            of = f", {name}" if len(evaluations) > 1 else ""
            count = len(evaluation.accuracies)
            self._console.print(
                f"iteration {iteration}{of}: {evaluation} ({count} {evaluation.network})"
            )

    def on_end(self, history: Sequence[Mapping[str, float]], completed: bool) -> None:
        """Stops the bar, and warns of a correction that was too weak, or of skipped updates."""
        self._progress.stop()
        columns = {
            name: [row.get(name, math.nan) for row in history]
            for name in ("share", "cosine", "lam")
        }
        advice = Action.of(columns).advice
        if completed and advice is not None:
            self._console.print(advice)
        skipped = sum(row.get("skipped", 0) for row in history)
        if completed and skipped > len(history) / 2:
            self._console.print(
                f"warning: {skipped:.0f} of {len(history)} updates were skipped, because the "
                "loss was above threshold or not finite: lower `lr_img` or `lr_lr`"
            )

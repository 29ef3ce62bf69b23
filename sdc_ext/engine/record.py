"""What a run has done so far, and its checkpoint on disk."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sdc_ext._files import write_whole
from sdc_ext.adapters.base import State
from sdc_ext.sets.history import HISTORY
from sdc_ext.sets.info import Evaluation
from sdc_ext.sets.synthetic_set import Distilled


@dataclass
class Record:
    """What a run has done so far; it is what a checkpoint holds.

    Attributes:
        state: the loop's state.
        pick: Chooses the evaluation that counts.
        iteration: outer iterations done.
        history: a row of logged values an iteration.
        evaluations: iteration, network and accuracies of each evaluation.
        kept: what was distilled at the evaluation that counts.
    """

    state: State
    pick: Callable[[Sequence[Mapping[str, Any]]], Mapping[str, Any]]
    iteration: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    kept: Distilled | None = None

    def note(self, log: dict[str, float]) -> None:
        """Notes what an iteration logged, and that it is done."""
        self.history.append({"iteration": self.iteration, **log})
        self.iteration += 1

    def add(self, evaluation: Evaluation, of: str) -> None:
        """Notes an evaluation of one of the state's candidates, and keeps that if it counts."""
        row = evaluation.row(self.iteration, of)
        self.evaluations.append(row)
        if self.pick(self.evaluations) is row:
            self.kept = self.state.candidates()[of].copy()

    def state_dict(self) -> dict[str, Any]:
        return {
            "state": self.state.state_dict(),
            "iteration": self.iteration,
            "history": self.history,
            "evaluations": self.evaluations,
            "kept": None if self.kept is None else vars(self.kept),
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        self.state.load_state_dict(saved["state"])
        self.iteration = saved["iteration"]
        self.history = saved["history"]
        self.evaluations = saved["evaluations"]
        self.kept = None if saved["kept"] is None else Distilled(**saved["kept"])

    def write_history(self, folder: Path) -> None:
        """Writes the logged values as a table."""
        write_whole(folder / HISTORY, self._write_csv)

    def _write_csv(self, path: Path) -> None:
        with path.open("w", newline="") as file:
            # Skipped iterations have fewer columns.
            columns = dict.fromkeys(name for row in self.history for name in row)
            writer = csv.DictWriter(file, fieldnames=list(columns) or ["iteration"], restval="nan")
            writer.writeheader()
            writer.writerows(self.history)

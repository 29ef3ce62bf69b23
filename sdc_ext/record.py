"""What a run has done so far, and its checkpoint on disk."""

from __future__ import annotations

import csv
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from sdc_ext.adapters.base import State
from sdc_ext.errors import InputError
from sdc_ext.evaluate import Evaluation
from sdc_ext.files import write_whole
from sdc_ext.synthetic import Distilled

CHECKPOINT = "checkpoint.pt"
HISTORY = "history.csv"


@dataclass
class Record:
    """What a run has done so far; it is what a checkpoint holds.

    Attributes:
        state: the loop's state.
        counts: which evaluation counts, ``"last"`` or ``"best"``.
        iteration: outer iterations done.
        history: a row of logged values an iteration.
        evaluations: iteration, network and accuracies of each evaluation.
        kept: what was distilled at the evaluation that counts.
    """

    state: State
    counts: str
    iteration: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    kept: Distilled | None = None

    def add(self, evaluation: Evaluation, of: str) -> None:
        """Notes an evaluation of one of the state's candidates, and keeps that if it counts."""
        earlier = [e["mean"] for e in self.evaluations]
        self.evaluations.append(evaluation.row(self.iteration, of))
        if self.counts == "last" or all(evaluation.mean > mean for mean in earlier):
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


def read_history(folder: Path) -> dict[str, list[float]]:
    """The columns that :meth:`Record.write_history` wrote; none if there is no such file."""
    path = folder / HISTORY
    if not path.is_file():
        return {}
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) for row in rows] for name in (rows[0] if rows else ())}


class Checkpoint:
    """Saves a record every minute and on demand, and restores it.

    Not Accelerate's ``save_state``: it restores by unpickling, which executes what a file says,
    and its random states are not needed, since every iteration is seeded on its own.
    """

    _SECONDS_BETWEEN = 60.0

    def __init__(self, record: Record, folder: Path, device: torch.device) -> None:
        self._record = record
        self._path = folder / CHECKPOINT
        self._device = device
        self._saved_at = time.monotonic()

    def save(self) -> None:
        """Replaces the checkpoint on disk."""
        write_whole(self._path, lambda path: torch.save(self._record.state_dict(), path))
        self._saved_at = time.monotonic()

    def save_now_and_then(self) -> None:
        """Saves if a minute has passed."""
        if time.monotonic() - self._saved_at > self._SECONDS_BETWEEN:
            self.save()

    def restore(self) -> bool:
        """Loads what was saved into the record; False if nothing was.

        Raises:
            InputError: if the file is damaged.
        """
        if not self._path.is_file():
            return False
        try:
            saved = torch.load(self._path, map_location=self._device, weights_only=True)
            self._record.load_state_dict(saved)
        except Exception as error:  # torch reports damage in many ways, and advises what is unsafe
            raise InputError(
                f"the checkpoint {self._path} is damaged, and the run cannot go on: choose another "
                "--out; the last set that was saved is still there"
            ) from error
        return True

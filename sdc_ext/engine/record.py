"""The record of a run: its state, its history and its evaluations so far."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sdc_ext.adapters.base import State
from sdc_ext.sdc_loss import SDCLoss
from sdc_ext.sets.info import Evaluation, EvaluationRow
from sdc_ext.sets.synthetic_set import Distilled


class Moment(NamedTuple):
    """A record at some moment, to return to.

    Attributes:
        state: A copy of the state of the loop.
        correction: The measures of the correction's strength.
        iteration: The number of outer iterations done.
        evaluations: The number of evaluations.
        kept: The distilled images and labels at the evaluation that counts.
        proved: The last state of the loop from which a step succeeded.
        skipped: The number of updates skipped in a row.
    """

    state: dict[str, Any]
    correction: dict[str, float]
    iteration: int
    evaluations: int
    kept: Distilled | None
    proved: dict[str, Any] | None
    skipped: int


@dataclass
class Record:
    """Everything that a run has done so far, which is what a checkpoint holds.

    Attributes:
        state: The state of the loop.
        loss_fn: The matching loss with the correction, which measures its strength.
        pick: A function that chooses the evaluation that counts.
        iteration: The number of outer iterations done.
        history: The logged values, one row per iteration.
        evaluations: The iteration, network and accuracies of each evaluation.
        kept: The distilled images and labels at the evaluation that counts.
        proved: The last state of the loop from which a step succeeded; None before the first step.
        skipped: The number of updates skipped in a row.
    """

    state: State
    loss_fn: SDCLoss
    pick: Callable[[Sequence[EvaluationRow]], EvaluationRow]
    iteration: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    evaluations: list[EvaluationRow] = field(default_factory=list)
    kept: Distilled | None = None
    proved: dict[str, Any] | None = None
    skipped: int = 0

    def note(self, log: dict[str, float]) -> None:
        """Appends the log of an iteration, and counts the iteration as done."""
        self.history.append({"iteration": self.iteration, **log})
        self.iteration += 1

    def add(self, evaluation: Evaluation, of: str) -> None:
        """Appends an evaluation, and keeps a copy of the candidate if this evaluation counts.

        Args:
            evaluation: The accuracies.
            of: The name of the state's candidate that was evaluated.
        """
        row = evaluation.row(self.iteration, of)
        self.evaluations.append(row)
        if self.pick(self.evaluations) is row:
            self.kept = self.state.candidates()[of].copy()

    def moment(self) -> Moment:
        """Returns everything that an iteration may change, as it is now."""
        state = copy.deepcopy(self.state.state_dict())
        correction = self.loss_fn.state_dict()
        return Moment(
            state,
            correction,
            self.iteration,
            len(self.evaluations),
            self.kept,
            self.proved,
            self.skipped,
        )

    def return_to(self, moment: Moment) -> None:
        """Undoes what was done since a moment, however far it had come."""
        self.state.load_state_dict(moment.state)
        self.loss_fn.load_state_dict(moment.correction)
        self.iteration = moment.iteration
        del self.history[moment.iteration :]  # one row per iteration
        del self.evaluations[moment.evaluations :]
        self.kept = moment.kept
        self.proved, self.skipped = moment.proved, moment.skipped

    def state_dict(self) -> dict[str, Any]:
        """Returns everything a checkpoint needs to continue the run."""
        return {
            "state": self.state.state_dict(),
            "correction": self.loss_fn.state_dict(),
            "iteration": self.iteration,
            "history": self.history,
            "evaluations": self.evaluations,
            "kept": None if self.kept is None else vars(self.kept),
            "proved": self.proved,
            "skipped": self.skipped,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Restores what ``state_dict`` returned, in place."""
        self.state.load_state_dict(saved["state"])
        self.loss_fn.load_state_dict(saved["correction"])
        self.iteration = saved["iteration"]
        self.history = saved["history"]
        self.evaluations = saved["evaluations"]
        self.kept = None if saved["kept"] is None else Distilled(**saved["kept"])
        # Checkpoints of earlier versions have neither.
        self.proved, self.skipped = saved.get("proved"), saved.get("skipped", 0)

"""Trials of a cell before its runs: how long iterations, evaluations and experts take."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from sdc_ext.errors import DivergenceError
from sdc_ext.reproduction.fitting import Pace, steps_of
from sdc_ext.sets.synthetic_set import SyntheticSet
from sdc_ext.verbs.cells import CellRuns
from sdc_ext.verbs.clock import Clock, Watch
from sdc_ext.verbs.distillation import distill
from sdc_ext.verbs.evaluation import evaluate_set
from sdc_ext.verbs.experts import train_experts

# The iterations that are timed, the first of which also warms up.
_TIMED = 3

_TIMED_EPOCHS = 10


def expert_pace(cell: CellRuns, number: int, clock: Clock) -> float:
    """Returns the seconds that one epoch of one expert takes.

    Args:
        cell: The cell.
        number: The number of the experts, whose folder is empty afterwards.
        clock: The clock of all processes.
    """
    folder = cell.experts(number)
    cell.clear(folder)
    begun = time.monotonic()
    train_experts(
        cell.method.name,
        cell.data,
        num_experts=1,
        ipc=cell.cell.ipc,
        out=folder,
        accelerator=cell.accelerator,
        progress=False,
        **cell.expert_settings,
        train_epochs=1,
    )
    cell.clear(folder)
    return clock.agreed(time.monotonic() - begun)


def measure_pace(
    cell: CellRuns, experts: int, shortened: Mapping[str, Any], clock: Clock, seconds: float
) -> Pace:
    """Returns the pace of a cell, from a trial of one to three iterations.

    Args:
        cell: The cell.
        experts: The number of its experts; 0 without.
        shortened: Settings that suit the experts.
        clock: The clock of all processes.
        seconds: The time after which the iterations stop, and the evaluation is not repeated.

    Raises:
        DivergenceError: If the loss of the trial is not finite.
    """
    folder, watch = cell.out / "trial" / cell.cell.folder, Watch(clock, seconds)
    cell.clear(folder)
    trial = {**shortened, "iterations": _TIMED, "eval_every": _TIMED}
    trial |= {"num_eval": 1, "epoch_eval_train": 1}
    several = steps_of(cell.settings) > 1
    if several:
        trial["outer_loop"] = 2
    try:
        synthetic = distill(
            cell.method.name,
            cell.data,
            ipc=cell.cell.ipc,
            lam=cell.cell.lam,
            out=folder,
            experts=cell.experts(experts) if experts else None,
            accelerator=cell.accelerator,
            progress=False,
            callbacks=[watch],
            **cell.chosen(trial),
        )
    except DivergenceError:
        cell.clear(folder.parent)
        raise
    others = (0.0, 0.0)
    if cell.networks:
        others = _evaluation_pace(cell, synthetic, cell.networks, 2, clock, seconds)
    cell.clear(folder.parent)
    step = watch.pace / (2 if several else 1)
    own = _evaluation_pace(cell, synthetic, None, _TIMED_EPOCHS, clock, seconds)
    return Pace(step, *own, *others)


def _evaluation_pace(
    cell: CellRuns,
    synthetic: SyntheticSet,
    networks: Sequence[str] | None,
    epochs: int,
    clock: Clock,
    seconds: float,
) -> tuple[float, float]:
    """Returns the seconds for testing, and those for each epoch of training."""

    def taken(number: int) -> float:
        begun = time.monotonic()
        evaluate_set(
            synthetic,
            cell.data,
            networks=networks,
            num_eval=1,
            epoch_eval_train=number,
            accelerator=cell.accelerator,
            progress=False,
        )
        return clock.agreed(time.monotonic() - begun)

    first = taken(1)
    if first > seconds:  # testing is counted as training, since trying on would take too long
        return 0.0, first
    epoch = max(1e-4, (taken(1 + epochs) - first) / epochs)
    return max(0.0, first - epoch), epoch

"""Plans the runs of a table or figure so that they fit into a budget of time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from rich.console import Console

from sdc_ext._files import as_text, is_free, write_files
from sdc_ext._schemas import read_json
from sdc_ext.errors import DivergenceError, InputError
from sdc_ext.reproduction.fitting import Pace, fit, fit_experts, shortest
from sdc_ext.verbs.cells import EXPERTS, AtLeastOne, CellPlan, CellRuns
from sdc_ext.verbs.clock import Clock
from sdc_ext.verbs.trials import expert_pace, measure_pace

_PLAN = "plan.json"

# The seeds for which runs are shortened; more are run if there is time left.
_SEEDS = 5

# The part of the time that experts may take.
_FOR_EXPERTS = 0.2

# The part of the time that the iterations of trials may take.
_FOR_TRIALS = 0.1

# The part of the time that is planned with, since trials are short.
_SAFE = 0.9


@dataclass(frozen=True)
class BudgetPlan:
    """What a budget allows, as it is kept beside the runs.

    Attributes:
        item: The name of the table or figure.
        width: The number of channels of the ConvNet.
        data: The labels of the data by the name of the paper's data set.
        cells: What is run, by the folder of the cell; empty before it is planned.
        left_out: Why other cells are not run, by their names.
        seeds: The number of seeds that have been run, by the folder of the cell.
    """

    item: str
    width: int
    data: dict[str, str]
    cells: dict[str, CellPlan] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    seeds: dict[str, AtLeastOne] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """How long one seed of all cells is expected to take."""
        return sum(cell.seconds for cell in self.cells.values())


def open_plan(out: Path, plan: BudgetPlan, accelerator: Accelerator) -> BudgetPlan:
    """Returns the plan that a folder holds, or else keeps a new one there.

    Raises:
        InputError: If the folder holds something else, or a plan for another item or other data.
    """
    if is_free(out):
        keep_plan(out, plan, accelerator)
        return plan
    if not (out / _PLAN).is_file():
        raise InputError(f"{out} holds something else: choose another `out`")
    kept = read_json(out / _PLAN, BudgetPlan, "choose another `out`")
    if not kept.cells:  # an earlier call has not begun to run
        keep_plan(out, plan, accelerator)
        return plan
    if (kept.item, kept.width, kept.data) != (plan.item, plan.width, plan.data):
        held = ", ".join(dict.fromkeys(kept.data.values()))
        raise InputError(
            f"{out} holds runs of {kept.item} on {held} with a width of {kept.width}: choose "
            "another `out`"
        )
    return kept


def keep_plan(out: Path, plan: BudgetPlan, accelerator: Accelerator) -> None:
    """Writes a plan to a folder."""
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        write_files(out, {_PLAN: as_text(json.dumps(asdict(plan), indent=1))})
    accelerator.wait_for_everyone()


@dataclass(frozen=True)
class _Experts:
    """The experts that some cells match.

    Attributes:
        number: The number that names their folder; 0 for methods without experts.
        epochs: The number of their epochs.
    """

    number: int = 0
    epochs: int = 0


@dataclass(frozen=True)
class _Trial:
    """What is known of a cell before its runs are shortened.

    Attributes:
        cell: The cell.
        experts: Its experts.
        shortened: The settings that suit them, where they differ.
        pace: How long the parts of a run take.
    """

    cell: CellRuns
    experts: _Experts
    shortened: dict[str, Any]
    pace: Pace

    @property
    def runs(self) -> int:
        """The number of runs per seed."""
        return len(self.cell.item.arms(self.cell.cell, 1))

    @property
    def shortest(self) -> float:
        """The seconds of the shortest sensible run."""
        settings = self.cell.shortened(self.shortened)
        return shortest(settings, self.pace, self.cell.item.fewest_iterations)

    def plan(self, seconds: float) -> CellPlan | None:
        """Returns the plan with which a run fits into a time, if there is one."""
        settings = self.cell.shortened(self.shortened)
        fitted = fit(settings, self.pace, seconds, self.cell.item.fewest_iterations)
        if fitted is None:
            return None
        return CellPlan(
            fitted.iterations,
            self.shortened | fitted.settings,
            fitted.other_epochs,
            self.runs * fitted.seconds,
            self.experts.number,
            self.experts.epochs,
        )


def make_plan(
    plan: BudgetPlan, cells: Sequence[CellRuns], clock: Clock, console: Console
) -> BudgetPlan:
    """Trains experts, tries every cell, and returns the plan with what fits into the time.

    Args:
        plan: The plan without cells.
        cells: The cells on the data that there are.
        clock: The time.
        console: The console for lines about what is done.

    Raises:
        InputError: If nothing fits.
        DivergenceError: If every cell diverges.
    """
    begun = clock.left()
    failed: dict[str, InputError | DivergenceError] = {}
    experts = _train_experts(cells, clock, console, failed)
    trials: list[_Trial] = []
    for number, cell in enumerate(cells, 1):
        if str(cell.cell) in failed:
            continue
        console.print(f"trial {number} of {len(cells)}: {cell.cell}")
        seconds = clock.left() * _FOR_TRIALS / len(cells)
        try:
            trials.append(_try(cell, clock, seconds, experts.get(cell.store, _Experts())))
        except (InputError, DivergenceError) as error:
            failed[str(cell.cell)] = error
    if not trials:
        raise next(iter(failed.values()))
    left = clock.left()
    planned, too_long = _fitted(trials, left, begun - left)
    reasons = {**{name: str(error) for name, error in failed.items()}, **too_long}
    left_out = {str(c.cell): reasons[str(c.cell)] for c in cells if str(c.cell) in reasons}
    if not planned:
        said = "; ".join(f"{cell}: {why}" for cell, why in left_out.items())
        raise InputError(f"nothing fits into the `budget` ({said}): give it more minutes")
    return replace(plan, cells=planned, left_out=left_out)


def _train_experts(
    cells: Sequence[CellRuns],
    clock: Clock,
    console: Console,
    failed: dict[str, InputError | DivergenceError],
) -> dict[tuple[Any, ...] | None, _Experts]:
    """Trains the experts of all cells for as long as the time allows.

    Args:
        cells: The cells.
        clock: The time.
        console: The console for lines about what is done.
        failed: Receives the errors of experts, by the names of their cells.

    Returns:
        The experts by what cells with the same ones have in common.
    """
    stores: dict[tuple[Any, ...], list[CellRuns]] = {}
    for cell in cells:
        if cell.store is not None:
            stores.setdefault(cell.store, []).append(cell)
    found: dict[tuple[Any, ...] | None, _Experts] = {}
    for number, (store, users) in enumerate(stores.items(), 1):
        console.print(f"experts {number} of {len(stores)}: {', '.join(str(u.cell) for u in users)}")
        seconds = clock.left() * _FOR_EXPERTS / (len(stores) + 1 - number)
        try:
            epochs = _epochs_of(users, expert_pace(users[0], number, clock), seconds)
            users[0].train_experts(number, epochs)
        except (InputError, DivergenceError) as error:
            failed.update({str(user.cell): error for user in users})
            continue
        found[store] = _Experts(number, epochs)
    return found


def _epochs_of(users: Sequence[CellRuns], epoch: float, seconds: float) -> int:
    """Returns for how many epochs experts can be trained in a time, as far as they are used."""
    loops: list[Any] = [user.settings.loop for user in users]
    fewest = max(loop.expert_epochs for loop in loops)
    most = max(loop.epochs_needed for loop in loops)
    return int(max(fewest, min(most, seconds // (EXPERTS * epoch))))


def _try(cell: CellRuns, clock: Clock, seconds: float, experts: _Experts) -> _Trial:
    """Measures the pace of a cell in a trial of some seconds.

    Raises:
        InputError: If the cell does not suit the data.
        DivergenceError: If the loss of the trial is not finite.
    """
    shortened = fit_experts(cell.settings, experts.epochs) if experts.number else {}
    pace = measure_pace(cell, experts.number, shortened, clock, seconds)
    return _Trial(cell, experts, shortened, pace)


def _fitted(
    trials: Sequence[_Trial], seconds: float, spent: float
) -> tuple[dict[str, CellPlan], dict[str, str]]:
    """Shares a time between the runs of all cells; the longest ones that do not fit are left out.

    Args:
        trials: The cells with their pace.
        seconds: The time for the runs.
        spent: The time that experts and trials have taken, which another call takes again.

    Returns:
        The plans by the folder of the cell, and why other cells are left out, by their names.
    """
    fitting = list(trials)
    left_out: dict[str, str] = {}
    while fitting:
        runs = _SEEDS * sum(trial.runs for trial in fitting)
        plans = {t.cell.cell.folder: t.plan(seconds * _SAFE / runs) for t in fitting}
        kept = {folder: plan for folder, plan in plans.items() if plan is not None}
        if len(kept) == len(plans):
            return kept, left_out
        longest = max(fitting, key=lambda trial: trial.shortest)
        fitting = [trial for trial in fitting if trial is not longest]
        needed = (longest.shortest * runs / _SAFE + spent) / 60
        left_out[str(longest.cell.cell)] = (
            f"its shortest run takes about {longest.shortest:.2g} s, which needs a budget of "
            f"{needed:.2g} minutes"
        )
    return {}, left_out

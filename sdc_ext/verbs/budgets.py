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
from sdc_ext.adapters import Settings
from sdc_ext.errors import DivergenceError, InputError
from sdc_ext.reproduction.fitting import Pace, fit, fit_experts, shortest
from sdc_ext.verbs.cells import EXPERTS, CellPlan, CellRuns
from sdc_ext.verbs.clock import Clock

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
    seeds: dict[str, int] = field(default_factory=dict)

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
class _Trial:
    """What is known of a cell before its runs are shortened.

    Attributes:
        cell: The cell.
        pace: How long the parts of a run take.
        settings: Its settings with the experts that there are.
        shortened: Those of them that suit the experts, where they differ.
        experts: The folder of its experts, if its method matches some.
    """

    cell: CellRuns
    pace: Pace
    settings: Settings
    shortened: dict[str, Any]
    experts: Path | None

    @property
    def runs(self) -> int:
        """The number of runs per seed."""
        return len(self.cell.item.arms(self.cell.cell, 1))

    @property
    def shortest(self) -> float:
        """The seconds of the shortest sensible run."""
        return shortest(self.settings, self.pace, self.cell.item.evaluations)

    def plan(self, seconds: float) -> CellPlan | None:
        """Returns the plan with which a run fits into a time, if there is one."""
        fitted = fit(self.settings, self.pace, seconds, self.cell.item.evaluations)
        if fitted is None:
            return None
        experts = None if self.experts is None else str(self.experts)
        settings = self.shortened | fitted.settings
        return CellPlan(settings, fitted.other_epochs, self.runs * fitted.seconds, experts)


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
    """
    experts = _train_experts(cells, clock, console)
    trials: list[_Trial] = []
    left_out: dict[str, str] = {}
    for number, cell in enumerate(cells, 1):
        console.print(f"trial {number} of {len(cells)}: {cell.cell}")
        try:
            seconds = clock.left() * _FOR_TRIALS / len(cells)
            trials.append(_try(cell, clock, seconds, *experts.get(cell.store, (None, 0))))
        except DivergenceError as error:
            left_out[str(cell.cell)] = str(error)
    planned, too_long = _fitted(trials, clock.left())
    left_out |= too_long
    if not planned:
        reasons = "; ".join(f"{cell}: {why}" for cell, why in left_out.items())
        raise InputError(f"nothing fits into the `budget` ({reasons}): give it more minutes")
    return replace(plan, cells=planned, left_out=left_out)


def _train_experts(
    cells: Sequence[CellRuns], clock: Clock, console: Console
) -> dict[tuple[Any, ...] | None, tuple[Path, int]]:
    """Trains the experts of all cells for as long as the time allows.

    Returns:
        Their folders and their numbers of epochs, by what cells with the same experts share.
    """
    stores: dict[tuple[Any, ...], list[CellRuns]] = {}
    for cell in cells:
        if cell.store is not None:
            stores.setdefault(cell.store, []).append(cell)
    found: dict[tuple[Any, ...] | None, tuple[Path, int]] = {}
    for number, (store, users) in enumerate(stores.items(), 1):
        first, folder = users[0], users[0].out / "experts" / str(number)
        console.print(f"experts {number} of {len(stores)}: {', '.join(str(u.cell) for u in users)}")
        epoch = first.try_expert(folder, clock)
        seconds = clock.left() * _FOR_EXPERTS / (len(stores) + 1 - number)
        loops: list[Any] = [user.settings.loop for user in users]
        fewest = max(loop.expert_epochs for loop in loops)
        most = max(loop.epochs_needed for loop in loops)
        epochs = max(fewest, min(most, int(seconds / (EXPERTS * epoch))))
        first.train_experts(folder, epochs)
        found[store] = folder, epochs
    return found


def _try(cell: CellRuns, clock: Clock, seconds: float, experts: Path | None, epochs: int) -> _Trial:
    """Measures the pace of a cell in a trial of some seconds.

    Raises:
        DivergenceError: If the loss of the trial is not finite.
    """
    shortened = {} if experts is None else fit_experts(cell.settings, epochs)
    pace = cell.measure(experts, shortened, clock, seconds)
    return _Trial(cell, pace, cell.shortened(shortened), shortened, experts)


def _fitted(trials: Sequence[_Trial], seconds: float) -> tuple[dict[str, CellPlan], dict[str, str]]:
    """Shares a time between the runs of all cells; the longest ones that do not fit are left out.

    Returns:
        The plans by the folder of the cell, and why other cells are left out, by their names.
    """
    fitting = list(trials)
    left_out: dict[str, str] = {}
    while fitting:
        runs = sum(trial.runs for trial in fitting)
        for_one = seconds * _SAFE / (runs * _SEEDS)
        plans = {trial.cell.cell.folder: trial.plan(for_one) for trial in fitting}
        kept = {folder: plan for folder, plan in plans.items() if plan is not None}
        if len(kept) == len(plans):
            return kept, left_out
        longest = max(fitting, key=lambda trial: trial.shortest)
        fitting = [trial for trial in fitting if trial is not longest]
        left_out[str(longest.cell.cell)] = (
            f"even a run of one step takes {longest.shortest:.1f} s, and the budget leaves "
            f"{max(0, for_one):.1f} s"
        )
    return {}, left_out

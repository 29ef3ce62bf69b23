"""The verb that compares settings of a method by paired runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from accelerate import Accelerator
from rich.console import Console, RenderableType

from sdc_ext._files import Writer, as_table, as_text, write_files, write_whole
from sdc_ext._kinds import Number
from sdc_ext._values import Count, CountOrZero, Weight, checked
from sdc_ext._words import number_of
from sdc_ext.adapters import Method, Settings, Task, get_method
from sdc_ext.data.real import RealData
from sdc_ext.engine.engine import Engine
from sdc_ext.engine.experts import with_experts
from sdc_ext.engine.run_folder import held
from sdc_ext.errors import DivergenceError
from sdc_ext.evaluation.arms import Arm
from sdc_ext.evaluation.comparison import GAIN, Cell, Comparison, grid
from sdc_ext.evaluation.tracking import warm_up
from sdc_ext.report.difficulty_figures import draw_tracking
from sdc_ext.report.figures import draw_differences
from sdc_ext.report.kept_tables import COMPARISON
from sdc_ext.report.shown import Shown
from sdc_ext.report.tables import accuracy_table, gain_table, tracking_table
from sdc_ext.sets.history import read_history
from sdc_ext.sets.synthetic_set import SyntheticSet
from sdc_ext.strength import STRENGTHS
from sdc_ext.verbs.arms import check_arms
from sdc_ext.verbs.session import (
    check_compile,
    check_start,
    chosen_settings,
    make_accelerator,
    make_console,
    open_data,
    prepare_data,
    refuse,
    resolve_for,
)
from sdc_ext.workers import Workers, choose_workers

TRACKING = "tracking.png"

Points: TypeAlias = Annotated[float, Number(0.001, 100)]
"""A difference in accuracy, in percentage points."""


@dataclass(frozen=True, repr=False)
class Compared(Shown):
    """The result of paired runs of several arms; it prints as tables.

    Attributes:
        comparison: The accuracies of all runs, the gains and their intervals.
        out: The folder with the runs, ``cells.csv``, ``comparison.json`` and the pictures.
        warm_ups: The numbers of iterations at the start that the drift of GraDN leaves out, by
            the name of the arm; see [`warm_up`][sdc_ext.evaluation.warm_up].
    """

    comparison: Comparison
    out: Path
    warm_ups: Mapping[str, int] = field(default_factory=dict)

    def tables(self) -> Sequence[RenderableType]:
        """Returns the tables of GraDN's drift, accuracies and gains, and a sentence per arm."""
        diverged = self.comparison.diverged.items()
        return (
            tracking_table(self.histories(), self.warm_ups),
            accuracy_table(self.comparison),
            gain_table(self.comparison),
            *(gain.verdict for gain in self.comparison.gains),
            *(f"{arm} diverged and is left out: {why}" for arm, why in diverged),
        )

    def histories(self) -> dict[str, list[dict[str, list[float]]]]:
        """Returns the columns that each run logged, by the name of the arm, one run per seed."""
        return self._histories

    @cached_property
    def _histories(self) -> dict[str, list[dict[str, list[float]]]]:
        return {
            arm.name: [
                read_history(run_folder(self.out, arm, cell.seed))
                for cell in self.comparison.of_arm(arm)
            ]
            for arm in self.comparison.arms
        }

    def draw(self, path: str | Path) -> None:
        """Draws the accuracies by arm, and the gains with their 95 % intervals, into a file."""
        write_whole(Path(path), lambda file: draw_differences(self.comparison, file))

    def save(self) -> None:
        """Writes the tables and the pictures to ``out``."""
        files: dict[str, Writer] = {
            "cells.csv": as_table(self.comparison.rows()),
            COMPARISON: as_text(json.dumps(self.comparison.summary(), indent=1)),
            "comparison.png": self.draw,
            TRACKING: lambda path: draw_tracking(self.histories(), self.warm_ups, path),
        }
        write_files(self.out, files)


@checked
def compare(
    method: str,
    data: Any = "digits",
    *,
    lams: Sequence[Weight] | None = None,
    shares: Sequence[Weight] | None = None,
    arms: Sequence[Mapping[str, Any]] | None = None,
    seeds: Count = 6,
    first_seed: CountOrZero = 0,
    ipc: Count = 1,
    margin: Points = 100 * GAIN,
    out: str | Path | None = None,
    experts: str | Path | None = None,
    compile: bool = False,
    workers: Any = 1,
    accelerator: Accelerator | None = None,
    progress: bool = True,
    **settings: Any,
) -> Compared:
    """Distils with several settings under the same seeds, and separates signal from noise.

    Runs that ``out`` already holds are kept, so the same call continues a stopped comparison, and
    a call with more seeds or further arms makes the missing runs only.

    Args:
        method: The method's name; see [`distill`][sdc_ext.distill].
        data: The data to distil; see [`distill`][sdc_ext.distill].
        lams: The weights of the correction; all others are compared with the first. The default is
            0 and 0.002, unless ``shares`` or ``arms`` are given.
        shares: Shares of the image gradient to compare instead, e.g. ``[0, 0.1]``.
        arms: What to compare if it is not lam alone, e.g. ``[{"lam": 0}, {"lam": 0.002, "norm":
            "l2_squared"}]``: settings of the method by name, which take precedence over the shared
            ones. All others are compared with the first.
        seeds: The number of runs per arm, at least 2.
        first_seed: The seed of the first run; the others count up from it. Fresh seeds confirm what
            a comparison under other seeds has suggested.
        ipc: The number of images per class.
        margin: The smallest difference that matters, in percentage points of accuracy: arms that
            differ by less count as equivalent, and the seeds to go are those that find this gain.
        out: The folder of the runs; by default ``runs/compare-METHOD-DATA-ipcN``.
        experts: A folder of expert trajectories, which all runs share.
        compile: Compile the networks, which needs a C++ compiler.
        workers: The number of processes that make runs side by side, each with one thread, or an
            executor; see [`choose_workers`][sdc_ext.workers.choose_workers].
        accelerator: The Accelerator to run with; by default one that uses the machine's devices.
        progress: Print a line for every run.
        **settings: Settings that all runs share; see [`distill`][sdc_ext.distill].

    Returns:
        The paired differences, which print as tables.

    Raises:
        InputError: If there are fewer than 2 seeds or 2 different arms, and in all cases in which
            [`distill`][sdc_ext.distill] raises it.
        DivergenceError: If the loss of a run is not finite in the first arm, or in all others; an
            arm that diverges is otherwise left out.
    """
    elsewhere = "pass `lams` or `shares`, or put it into `arms`"
    refuse(settings, "compare", seed="pass `seeds`", **dict.fromkeys(STRENGTHS, elsewhere))
    chosen_arms = check_arms(seeds, lams=lams, shares=shares, arms=arms)
    chosen = get_method(method)
    check_start(chosen, out, experts)
    accelerator = accelerator or make_accelerator()
    side_by_side = choose_workers(workers, launched=accelerator.num_processes)
    console = make_console(accelerator, progress)
    shared = chosen_settings(settings)
    loaded = open_data(data, accelerator)
    by_arm = {arm: resolve_for(chosen, loaded, ipc, shared | arm.values) for arm in chosen_arms}
    check_compile(compile, chosen, *by_arm.values())
    folder = Path(out) if out else Path("runs") / f"compare-{chosen.name}-{loaded.label}-ipc{ipc}"
    tasks = _Tasks(chosen, loaded, ipc, accelerator, compile, console, experts, side_by_side)
    console.print(str(loaded))
    with held(folder, accelerator):
        made = {arm: tasks.of(resolved) for arm, resolved in by_arm.items()}
        runs = {
            (arm, seed): Engine(chosen, by_arm[arm], made[arm], seed, run_folder(folder, arm, seed))
            for arm, seed in grid(chosen_arms, seeds, first_seed)
        }
        for arm in chosen_arms:
            runs[arm, first_seed].check(resume=True)  # not only when it is its turn, after hours
        compared = _compared(runs, folder, margin / 100, console, side_by_side)
        if accelerator.is_main_process:
            compared.save()
        accelerator.wait_for_everyone()
    return compared


@dataclass(frozen=True)
class _Tasks:
    """The tasks of the arms; arms with the same data, network and experts share one."""

    method: Method
    data: RealData
    ipc: int
    accelerator: Accelerator
    compile: bool
    console: Console
    experts: str | Path | None
    workers: Workers
    made: dict[tuple[object, ...], Task] = field(default_factory=dict)

    def of(self, settings: Settings) -> Task:
        run = settings.run
        key = run.network, run.zca, run.statistics, settings.loop.epochs_needed
        if key not in self.made:
            data = prepare_data(self.data, run, self.accelerator)
            task = Task(data, self.ipc, run.network, self.accelerator, self.compile)
            # All runs share the experts of one seed.
            self.made[key] = with_experts(
                self.method,
                settings,
                task,
                seed=0,
                console=self.console,
                folder=self.experts,
                workers=self.workers,
            )
        return self.made[key]


def _compared(
    runs: Mapping[tuple[Arm, int], Engine],
    folder: Path,
    margin: float,
    console: Console,
    workers: Workers,
) -> Compared:
    """Makes the runs that are missing, and leaves out each arm of which one diverged.

    The first arm is not left out: if it diverges, there is nothing to compare with.
    """
    cells: dict[tuple[Arm, int], Cell] = {}
    warm_ups: dict[str, int] = {}

    def note(key: tuple[Arm, int], made: SyntheticSet) -> Cell:
        run, (arm, seed) = runs[key], key
        warm_ups[arm.name] = warm_up(made.info, run.settings.run.iterations)
        cells[key] = Cell.of(made, arm, seed, run.method.pick(made.info.accuracies))
        return cells[key]

    for key, run in runs.items():
        kept = run.kept()
        if kept is not None:
            note(key, kept)
    if cells:
        are = "is" if len(cells) == 1 else "are"
        console.print(f"{number_of(len(cells), 'run')} of {len(runs)} {are} kept")
    base, *others = dict.fromkeys(arm for arm, _ in runs)
    diverged: dict[Arm, DivergenceError] = {}
    numbers = {key: number for number, key in enumerate(runs, 1)}
    missing = {key: run for key, run in runs.items() if key not in cells}
    keys = list(missing)

    def report(index: int, made: SyntheticSet | DivergenceError) -> None:
        arm, seed = key = keys[index]
        done = f"run {numbers[key]} of {len(runs)}: {arm}, seed {seed}"
        if isinstance(made, DivergenceError):
            diverged.setdefault(arm, made)
            console.print(f"{done}: {made}")
            if arm == base:
                raise made
        else:
            console.print(f"{done}: {100 * note(key, made).accuracy:.2f} %")

    workers.map(_distilled, missing, keys, on_done=report, say=console.print)
    if all(arm in diverged for arm in others):
        raise next(iter(diverged.values()))
    left = [key for key in runs if key[0] not in diverged]
    warm_ups = {arm.name: warm_ups[arm.name] for arm, _ in left}
    why = {arm: str(error) for arm, error in diverged.items()}
    comparison = Comparison(tuple(cells[key] for key in left), margin, why)
    return Compared(comparison, folder, warm_ups)


def _distilled(
    runs: Mapping[tuple[Arm, int], Engine], key: tuple[Arm, int]
) -> SyntheticSet | DivergenceError:
    """Makes a run, and returns its set, or the error if it diverges."""
    try:
        return runs[key].distill(resume=True)
    except DivergenceError as error:
        return error


def run_folder(out: Path, arm: Arm, seed: int) -> Path:
    """Returns the folder of one run of a comparison in ``out``."""
    return out / arm.folder / f"seed-{seed}"

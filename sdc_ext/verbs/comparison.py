"""The verb that compares strengths of the correction by paired runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from rich.console import Console, RenderableType

from sdc_ext._files import Writer, as_table, as_text, write_files, write_whole
from sdc_ext._values import Count, Weight, checked
from sdc_ext.adapters import get_method
from sdc_ext.adapters.settings import resolve
from sdc_ext.engine.engine import Engine
from sdc_ext.engine.experts import with_experts
from sdc_ext.errors import DivergenceError, InputError
from sdc_ext.evaluation.comparison import Cell, Comparison, grid
from sdc_ext.evaluation.tracking import warm_up
from sdc_ext.report.figures import draw_differences, draw_tracking
from sdc_ext.report.shown import Shown
from sdc_ext.report.tables import accuracy_table, gain_table, tracking_table
from sdc_ext.sets.history import read_history
from sdc_ext.verbs.session import (
    check_start,
    chosen_settings,
    make_accelerator,
    make_console,
    refuse,
    set_up,
)


@dataclass(frozen=True, repr=False)
class Compared(Shown):
    """The result of paired runs with several lam; it prints as tables.

    Attributes:
        comparison: The accuracies of all runs, the gains and their intervals.
        out: The folder with the runs, ``cells.csv``, ``comparison.json`` and the pictures.
        warm_up: The number of iterations at the start that the drift of GraDN leaves out; see
            [`warm_up`][sdc_ext.evaluation.warm_up].
    """

    comparison: Comparison
    out: Path
    warm_up: int = 0

    def tables(self) -> Sequence[RenderableType]:
        """Returns the tables of GraDN's drift, of accuracies and of gains."""
        return (
            tracking_table(self.histories(), self.warm_up),
            accuracy_table(self.comparison),
            gain_table(self.comparison),
        )

    def histories(self) -> dict[float, list[dict[str, list[float]]]]:
        """Returns the columns that each run logged, by lam, one run per seed."""
        return {
            lam: [read_history(_folder(self.out, lam, cell.seed)) for cell in cells]
            for lam, cells in ((lam, self.comparison.of_lam(lam)) for lam in self.comparison.lams)
        }

    def draw(self, path: str | Path) -> None:
        """Draws the accuracies by lam, and the gains with their 95 % intervals, into a file."""
        write_whole(Path(path), lambda file: draw_differences(self.comparison, file))

    def save(self) -> None:
        """Writes the tables and the pictures to ``out``."""
        files: dict[str, Writer] = {
            "cells.csv": as_table(self.comparison.rows()),
            "comparison.json": as_text(json.dumps(self.comparison.summary(), indent=1)),
            "comparison.png": self.draw,
            "tracking.png": lambda path: draw_tracking(self.histories(), path),
        }
        write_files(self.out, files)


@checked
def compare(
    method: str,
    data: Any = "digits",
    *,
    lams: Sequence[Weight] = (0.0, 0.002),
    seeds: Count = 6,
    ipc: Count = 1,
    out: str | Path | None = None,
    experts: str | Path | None = None,
    compile: bool = False,
    accelerator: Accelerator | None = None,
    progress: bool = True,
    **settings: Any,
) -> Compared:
    """Distils with several lam under the same seeds, and separates signal from noise.

    Runs that ``out`` already holds are kept, so the same call continues a stopped comparison.

    Args:
        method: The method's name; see [`distill`][sdc_ext.distill].
        data: The data to distil; see [`distill`][sdc_ext.distill].
        lams: The weights of the correction; all others are compared with the first.
        seeds: The number of runs per lam, at least 2.
        ipc: The number of images per class.
        out: The folder of the runs; by default ``runs/compare-METHOD-DATA-ipcN``.
        experts: A folder of expert trajectories, which all runs share.
        compile: Compile the networks, which needs a C++ compiler.
        accelerator: The Accelerator to run with; by default one that uses the machine's devices.
        progress: Print a line for every run.
        **settings: Settings that all runs share; see [`distill`][sdc_ext.distill].

    Returns:
        The paired differences, which print as tables.

    Raises:
        InputError: If there are fewer than 2 seeds or 2 different lam, and in all cases in which
            [`distill`][sdc_ext.distill] raises it.
        DivergenceError: If the loss of a run is not finite with the first lam, or with all others;
            a lam with which it diverges is otherwise left out.
    """
    refuse(settings, "compare", lam="pass lams", lam_ramp="pass lams", seed="pass seeds")
    # The folders of the runs name lam to six digits.
    if seeds < 2 or len({f"{lam:g}" for lam in lams}) != len(lams) or len(lams) < 2:
        raise InputError(
            f"a comparison needs at least 2 seeds and 2 different lam (to six digits), got {seeds} "
            f"seeds and lam {', '.join(map(str, lams)) or 'none'}"
        )
    chosen = get_method(method)
    check_start(chosen, out, experts)
    accelerator = accelerator or make_accelerator()
    console = make_console(accelerator, progress)
    shared = chosen_settings(settings)
    first, task = set_up(chosen, data, ipc, {**shared, "lam": lams[0]}, accelerator, compile)
    real = task.data
    by_lam = {
        lam: resolve(
            chosen,
            real.name,
            ipc,
            {**shared, "lam": lam},
            images=len(real.train),
            image_size=real.image_size,
        )
        for lam in lams
    }
    folder = Path(out) if out else Path("runs") / f"compare-{chosen.name}-{real.label}-ipc{ipc}"
    # All runs share the experts of one seed.
    task = with_experts(chosen, first, task, seed=0, console=console, folder=experts)
    console.print(str(real))
    runs = {
        (lam, seed): Engine(chosen, by_lam[lam], task, seed, _folder(folder, lam, seed))
        for lam, seed in grid(lams, seeds)
    }
    compared = _compared(runs, folder, console)
    if accelerator.is_main_process:
        compared.save()
    accelerator.wait_for_everyone()
    return compared


def _compared(runs: Mapping[tuple[float, int], Engine], folder: Path, console: Console) -> Compared:
    """Makes all runs, and leaves out each lam with which one diverged, but for the first."""
    cells: list[Cell] = []
    diverged: dict[float, DivergenceError] = {}
    for number, ((lam, seed), run) in enumerate(runs.items(), 1):
        done = f"run {number} of {len(runs)}: lam {lam:g}, seed {seed}"
        try:
            synthetic = run.distill(resume=True)
        except DivergenceError as error:
            diverged.setdefault(lam, error)
            console.print(f"{done}: {error}")
            continue
        cells.append(Cell.of(synthetic, lam, seed, run.method.pick(synthetic.info.accuracies)))
        console.print(f"{done}: {100 * cells[-1].accuracy:.2f} %")
    base, *others = dict.fromkeys(lam for lam, _ in runs)
    if base in diverged or all(lam in diverged for lam in others):
        raise next(iter(diverged.values()))
    for lam in diverged:
        console.print(f"lam {lam:g} diverged and is left out")
    skip = warm_up(synthetic.info, run.settings.run.iterations)
    kept = tuple(cell for cell in cells if cell.lam not in diverged)
    return Compared(Comparison(kept), folder, skip)


def _folder(out: Path, lam: float, seed: int) -> Path:
    return out / f"lam-{lam:g}" / f"seed-{seed}"

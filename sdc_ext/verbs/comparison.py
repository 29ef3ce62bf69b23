"""The verb that compares strengths of the correction by paired runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from rich.console import RenderableType

from sdc_ext._files import Writer, as_table, as_text, write_files, write_whole
from sdc_ext.adapters import get_method
from sdc_ext.adapters.settings import resolve
from sdc_ext.engine.engine import Engine
from sdc_ext.engine.experts import with_experts
from sdc_ext.errors import InputError
from sdc_ext.evaluation.comparison import Cell, Comparison, grid
from sdc_ext.evaluation.tracking import warm_up
from sdc_ext.report.figures import draw_differences, draw_tracking
from sdc_ext.report.shown import Shown
from sdc_ext.report.tables import accuracy_table, gain_table, tracking_table
from sdc_ext.sets.history import read_history
from sdc_ext.verbs.session import (
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


def compare(
    method: str,
    data: Any = "digits",
    *,
    lams: Sequence[float] = (0.0, 0.002),
    seeds: int = 6,
    ipc: int = 1,
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
        DivergenceError: If the loss of a run is not finite.
    """
    refuse(settings, "compare", lam="pass lams", lam_ramp="pass lams", seed="pass seeds")
    if seeds < 2 or len(set(lams)) != len(lams) or len(lams) < 2:
        raise InputError(
            f"a comparison needs at least 2 seeds and 2 different lam, got {seeds} seeds and lam "
            f"{', '.join(f'{lam:g}' for lam in lams) or 'none'}"
        )
    chosen = get_method(method)
    accelerator = accelerator or make_accelerator()
    console = make_console(accelerator, progress)
    shared = chosen_settings(settings)
    first, task = set_up(chosen, data, ipc, {**shared, "lam": lams[0]}, accelerator, compile)
    real = task.data
    by_lam = {
        lam: resolve(chosen, real.name, ipc, {**shared, "lam": lam}, images=len(real.train))
        for lam in lams
    }
    folder = Path(out) if out else Path("runs") / f"compare-{chosen.name}-{real.label}-ipc{ipc}"
    # All runs share the experts of one seed.
    task = with_experts(chosen, first, task, seed=0, console=console, folder=experts)
    console.print(str(real))
    cells: list[Cell] = []
    for lam, seed in grid(lams, seeds):
        run = Engine(chosen, by_lam[lam], task, seed, _folder(folder, lam, seed))
        synthetic = run.distill(resume=True)
        cells.append(Cell.of(synthetic, lam, seed, chosen.pick(synthetic.info.accuracies)))
        done = f"run {len(cells)} of {len(lams) * seeds}"
        console.print(f"{done}: lam {lam:g}, seed {seed}: {100 * cells[-1].accuracy:.2f} %")
    skip = warm_up(synthetic.info, first.run.iterations)
    compared = Compared(Comparison(tuple(cells)), folder, skip)
    if accelerator.is_main_process:
        compared.save()
    accelerator.wait_for_everyone()
    return compared


def _folder(out: Path, lam: float, seed: int) -> Path:
    return out / f"lam-{lam:g}" / f"seed-{seed}"

"""The verb that runs the shape of the paper's tables and figures within a budget of time."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from accelerate import Accelerator
from rich.console import Console, RenderableType

from sdc_ext._console import PlainTable
from sdc_ext._files import Writer, as_table, as_text, write_files, write_whole
from sdc_ext._kinds import Number, Whole
from sdc_ext._values import checked
from sdc_ext.data.real import RealData
from sdc_ext.engine.run_folder import held
from sdc_ext.errors import DivergenceError, InputError, check_choice
from sdc_ext.report.reproduction import (
    compared_rows,
    differences,
    draw_reproduction,
    drift_sentence,
    sentences,
    write_reproduction,
)
from sdc_ext.report.shown import Shown
from sdc_ext.reproduction.items import ITEMS, Cell, Item
from sdc_ext.reproduction.rows import CellResult, Row, rows_of
from sdc_ext.verbs.budgets import BudgetPlan, keep_plan, make_plan, open_plan
from sdc_ext.verbs.cells import CellRuns
from sdc_ext.verbs.clock import Clock
from sdc_ext.verbs.comparison import TRACKING
from sdc_ext.verbs.session import check_folder, make_accelerator, make_console, open_data
from sdc_ext.workers import choose_workers

Minutes: TypeAlias = Annotated[float, Number(0.1, 100_000)]
"""A time in minutes."""

Channels: TypeAlias = Annotated[int, Whole(1, 10_000)]
"""A number of channels."""

# Intervals need as many.
_FEWEST_SEEDS = 2


@dataclass(frozen=True, repr=False)
class Reproduced(Shown):
    """A table or figure of the paper beside runs of the same shape; it prints as tables.

    Attributes:
        item: The table or figure.
        rows: One row per cell, network and arm, with the published accuracies and those here.
        differences: What the budget and the data change, by cell, as ``NAME ours (the paper's)``.
        left_out: Why cells, data sets and networks were not run, by their names.
        out: The folder with the runs, ``reproduction.json``, ``reproduction.csv``, the picture
            and the page ``index.html``.
    """

    item: Item
    rows: Sequence[Row]
    differences: Mapping[str, str]
    left_out: Mapping[str, str]
    out: Path

    def tables(self) -> Sequence[RenderableType]:
        """Returns the table of accuracies, that of the differences, and sentences on both."""
        made = (_table(title, rows) for title, rows in self._tables.items())
        return (*made, *self.sentences)

    @property
    def sentences(self) -> list[str]:
        """What the paper claims, how that fares here, and what was not run."""
        said = sentences(self.rows, self.item.claim)
        if self.item.tracks:
            said.append(drift_sentence(self.rows))
        return [*said, *(f"{name} was not run: {why}." for name, why in self.left_out.items())]

    @property
    def _tables(self) -> dict[str, Sequence[Sequence[str]]]:
        compared = compared_rows(self.rows, self.item.tracks)
        changed = [["cell", "setting here (in the paper)"], *map(list, self.differences.items())]
        return {
            f"{self.item.title}; accuracies in percent": compared,
            "what differs from the paper": changed,
        }

    def draw(self, path: str | Path) -> None:
        """Draws the gains with their 95 % intervals, beside the paper's, into a file."""
        write_whole(Path(path), lambda file: draw_reproduction(self.rows, file))

    def save(self) -> None:
        """Writes the tables, the picture and the page to ``out``."""
        content = {
            "title": self.item.title,
            "version": version("sdc-ext"),
            "said": self.sentences,
            "rows": [row.content() for row in self.rows],
            "differences": self.differences,
            "left_out": self.left_out,
        }
        files: dict[str, Writer] = {
            "reproduction.json": as_text(json.dumps(content, indent=1)),
            "reproduction.csv": as_table([row.content() for row in self.rows]),
            "reproduction.png": self.draw,
            "index.html": self._write_page,
        }
        write_files(self.out, files)

    def _write_page(self, path: Path) -> None:
        ran = [row.cell for row in self.rows if row.here and self.item.tracks]
        curves = {str(cell): self.out / cell.folder / TRACKING for cell in dict.fromkeys(ran)}
        title = self.item.title
        write_reproduction(title, self._tables, self.sentences, self.rows, curves, path)


def _table(title: str, rows: Sequence[Sequence[str]]) -> PlainTable:
    table = PlainTable(title, *rows[0])
    for row in rows[1:]:
        table.add_row(*row)
    return table


@checked
def reproduce(
    item: str,
    budget: Minutes = 60.0,
    data: Any = None,
    *,
    data_dir: str | Path | None = None,
    download: bool = False,
    width: Channels = 32,
    out: str | Path | None = None,
    workers: Any = 1,
    accelerator: Accelerator | None = None,
    progress: bool = True,
) -> Reproduced:
    """Runs the shape of a table or figure of the paper within a budget of time.

    A short trial of every cell measures how long its parts take. The iterations, the epochs of
    evaluation networks and, in trajectory matching, the expert trajectories are then shortened so
    that five seeds of all cells fit into the budget; what fits unshortened keeps the paper's
    settings. Cells that do not fit at all are left out, and the result says so. Seeds are added
    until the time is over. The same call with the same ``out`` keeps the plan and the runs, and
    adds seeds for another budget.

    Args:
        item: ``"table1"``, ``"table2"``, ``"table3"``, ``"fig1"``, ``"fig5"``, ``"fig6"`` or
            ``"fig14"``.
        budget: The time in minutes.
        data: Data that stand in for the paper's, as [`distill`][sdc_ext.distill] takes them; each
            method and ipc is then run once. By default the paper's data sets that are in
            ``data_dir``, and the bundled digits if ``data_dir`` is left out, too.
        data_dir: The folder of the paper's data sets, as torchvision arranges them; those that are
            missing are left out.
        download: Whether torchvision may download what is missing.
        width: The number of channels of the ConvNet; the paper's has 128.
        out: The folder of the runs and the page; by default ``runs/reproduce-ITEM``.
        workers: The number of processes that make runs side by side, each with one thread, or an
            executor; see [`choose_workers`][sdc_ext.workers.choose_workers].
        accelerator: The Accelerator to run with; by default one that uses the machine's devices.
        progress: Print a line for every run.

    Returns:
        The accuracies beside the paper's and those of the methods' authors, which print as tables.

    Raises:
        InputError: If there is no such table or figure, the data cannot be loaded, nothing fits
            into the budget, or ``out`` holds something else.
        DivergenceError: If the loss is not finite in every cell.

    Reference: SDC paper, Tables 1 to 3 and Figures 1, 5, 6 and 14.
    """
    chosen = ITEMS[check_choice("item", item, ITEMS)]
    folder = Path(out) if out else Path("runs") / f"reproduce-{item}"
    check_folder(folder, "out")
    accelerator = accelerator or make_accelerator()
    console = make_console(accelerator, progress)
    side_by_side = choose_workers(workers, launched=accelerator.num_processes)
    clock = Clock(60 * budget, accelerator)
    found, missing = _data(chosen, data, data_dir, download, accelerator)
    cells = [
        CellRuns(chosen, cell, found[cell], folder, width, accelerator, side_by_side, progress)
        for cell in chosen.cells
        if cell in found
    ]
    labels = {cell.dataset: loaded.label for cell, loaded in found.items()}
    for loaded in {loaded.label: loaded for loaded in found.values()}.values():
        console.print(str(loaded))
    begun = BudgetPlan(item, width, labels)
    with held(folder, accelerator):
        rounds = _Rounds.planned(cells, begun, folder, clock, console, accelerator)
        rounds.run()
        reproduced = rounds.result(chosen, missing, folder)
        if accelerator.is_main_process:
            reproduced.save()
        accelerator.wait_for_everyone()
    return reproduced


def _data(
    item: Item,
    data: Any,
    data_dir: str | Path | None,
    download: bool,
    accelerator: Accelerator,
) -> tuple[dict[Cell, RealData], dict[str, str]]:
    """Returns the data of the cells that can be run, and why others cannot, by their names."""
    if data is not None and (data_dir is not None or download):
        raise InputError(
            "`data_dir` and `download` are for the paper's data sets: leave them out where you "
            "pass data that stand in for these"
        )
    if download and data_dir is None:
        raise InputError("`download` is of no use without a folder: pass `data_dir`, too")
    if data is not None or data_dir is None:
        loaded = open_data("digits" if data is None else data, accelerator)
        once = {(cell.method, cell.ipc): cell for cell in reversed(item.cells)}
        others = f"{loaded.label} stands in for all data, once for each method and ipc"
        missing = {"every other cell": others} if len(once) < len(item.cells) else {}
        return {cell: loaded for cell in item.cells if cell in once.values()}, missing
    found: dict[str, RealData] = {}
    missing = {}
    for name in dict.fromkeys(cell.dataset for cell in item.cells):
        by_torchvision = {"download": download} if name != "tinyimagenet" else {}
        try:
            found[name] = open_data(name, accelerator, data_dir=data_dir, **by_torchvision)
        except InputError as error:
            missing[name] = str(error).partition(": ")[0]
    if not found:
        raise InputError(
            f"none of the data sets of {item.title.partition(':')[0]} could be loaded "
            f"({'; '.join(missing.values())}): name their folder, let torchvision `download` "
            "them, or pass other data"
        )
    return {cell: found[cell.dataset] for cell in item.cells if cell.dataset in found}, missing


@dataclass
class _Rounds:
    """Runs the cells of a plan round by round, and keeps what comes out.

    Attributes:
        cells: The cells that still run.
        plan: The plan with the number of seeds of each cell.
        clock: The time.
        console: The console for lines about what is run.
        results: What came out, by cell.
        diverged: Why other cells have no result.
    """

    cells: list[CellRuns]
    plan: BudgetPlan
    clock: Clock
    console: Console
    results: dict[Cell, CellResult] = field(default_factory=dict)
    diverged: dict[Cell, DivergenceError] = field(default_factory=dict)

    @classmethod
    def planned(
        cls,
        cells: Sequence[CellRuns],
        begun: BudgetPlan,
        folder: Path,
        clock: Clock,
        console: Console,
        accelerator: Accelerator,
    ) -> _Rounds:
        """Returns the rounds of the plan in a folder, or of one that is made.

        Args:
            cells: The cells on the data that there are.
            begun: The plan without cells.
            folder: The folder of the table or figure.
            clock: The time.
            console: The console for lines about what is run.
            accelerator: The processes.

        Raises:
            InputError: If nothing fits into the time, or the folder holds something else.
            DivergenceError: If every cell diverges.
        """
        plan = open_plan(folder, begun, accelerator)
        if plan.cells:
            console.print(f"going on with the plan in {folder}, whose runs keep their length")
        else:
            plan = make_plan(plan, cells, clock, console)
            keep_plan(folder, plan, accelerator)
        planned = [c for c in cells if c.cell.folder in plan.cells]
        if not planned:
            raise InputError(
                f"the plan in {folder} is damaged (no cell of {plan.item} is in it): choose "
                "another `out`"
            )
        return cls(planned, plan, clock, console)

    def run(self) -> None:
        """Runs at least two seeds of every cell, and then more until the time is over.

        Raises:
            DivergenceError: If all cells diverge.
        """
        self._round(0)
        per_seed = self.plan.seconds
        while self.cells and (more := int(self.clock.left() / per_seed)) >= 1:
            begun = time.monotonic()
            self._round(more)
            per_seed = max(0.001, self.clock.agreed((time.monotonic() - begun) / more))
        self.console.print("no time is left for another seed of all cells")
        if not self.results:
            raise next(iter(self.diverged.values()))

    def _round(self, more: int) -> None:
        """Adds seeds to all cells, or to those for which there is time; the first have precedence.

        Args:
            more: The number of seeds to add; 0 only makes what every cell needs.
        """
        for number, one in enumerate(list(self.cells), 1):
            if more and self.clock.left() <= 0:
                break
            done = self.plan.seeds.get(one.cell.folder, 0)
            seeds = max(_FEWEST_SEEDS, done) + more
            which = f"cell {number} of {len(self.cells)}"
            self.console.print(f"{which}, {seeds} seeds: {one.cell}")
            try:
                self.results[one.cell] = one.run(self.plan.cells[one.cell.folder], seeds)
            except DivergenceError as error:
                self.results.pop(one.cell, None)
                self.diverged[one.cell] = error
                self.console.print(f"{one.cell} diverged and is left out: {error}")
                continue
            self.plan = replace(self.plan, seeds={**self.plan.seeds, one.cell.folder: seeds})
            keep_plan(one.out, self.plan, one.accelerator)
        self.cells = [one for one in self.cells if one.cell in self.results]

    def result(self, item: Item, missing: Mapping[str, str], out: Path) -> Reproduced:
        """Returns what came out, beside what was published.

        Args:
            item: The table or figure.
            missing: Why data sets were not run, by their names.
            out: The folder of the runs.
        """
        planned = {one.cell: self.plan.cells[one.cell.folder] for one in self.cells}
        differing = {
            str(one.cell): differences(
                one.shortened(planned[one.cell].changed),
                one.original,
                one.further(planned[one.cell]),
                one.method.selects,
            )
            for one in self.cells
        }
        too_small = {
            f"{network} in {one.cell}": f"it does not fit images of {one.data.label}"
            for one in self.cells
            for network in item.networks
            if network not in one.networks
        }
        diverged = {str(cell): str(error) for cell, error in self.diverged.items()}
        left_out = {**missing, **self.plan.left_out, **diverged, **too_small}
        iterations = {cell: one.iterations for cell, one in planned.items()}
        rows = rows_of(item, self.results, iterations, self.plan.data)
        return Reproduced(item, rows, differing, left_out, out)

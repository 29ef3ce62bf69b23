"""The verb that lays the surrogates of all methods side by side, beside the accuracies of sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from rich.console import RenderableType

from sdc_ext._console import make_progress
from sdc_ext._files import as_table, write_files, write_whole
from sdc_ext._values import Count, Rate, Seed, checked
from sdc_ext.evaluation.ranking import LEAST_SETS, RankCorrelation, rank_correlations
from sdc_ext.evaluation.results import Results
from sdc_ext.evaluation.surrogates import SURROGATES, Inner, Yardstick, measure_surrogates
from sdc_ext.report.shown import Shown
from sdc_ext.report.surrogates import draw_surrogates, ranking_table, surrogate_table
from sdc_ext.verbs.evaluation import evaluate_set
from sdc_ext.verbs.opening import Sets, check_same_data, common_probe, open_sets
from sdc_ext.verbs.session import check_free, make_accelerator, make_console


@dataclass(frozen=True, repr=False)
class MeasuredSurrogates(Shown):
    """The surrogates and the accuracies of sets; they print as tables of values and correlations.

    Attributes:
        results: The accuracies, one result per set.
        surrogates: The discrepancies of each set by the name of the set and of the surrogate.
        network: The architecture of all networks.
        seed: The seed, also of the bootstrap.
    """

    results: Results
    surrogates: Mapping[str, Mapping[str, float]]
    network: str
    seed: int

    @cached_property
    def correlations(self) -> list[RankCorrelation]:
        """The rank correlations with the error; none for fewer than 6 sets."""
        return rank_correlations(
            {name: [self.surrogates[r.name][name] for r in self.results] for name in SURROGATES},
            [1 - result.evaluation.mean for result in self.results],
            [result.synthetic.info.ipc for result in self.results],
            seed=self.seed,
        )

    def tables(self) -> Sequence[RenderableType]:
        """Returns the table of values, that of correlations, and what they rest on."""
        values = surrogate_table(self.results, self.surrogates)
        how = (
            f"networks: {self.network}; error: {len(self.results[0].evaluation.accuracies)} "
            "networks per set; intervals: 95 %, by a bootstrap over the sets"
        )
        if not self.correlations:
            few = f"rank correlations need at least {LEAST_SETS} sets, got {len(self.results)}"
            return values, how, few
        sizes = {result.synthetic.info.ipc for result in self.results}
        groups = {row.group for row in self.correlations}
        left_out = [f"ipc {n}" for n in sorted(sizes) if f"ipc {n}" not in groups]
        few = f"too few sets of their own, {LEAST_SETS} needed: {', '.join(left_out)}"
        notes = [few] if len(sizes) > 1 and left_out else []
        return values, ranking_table(self.correlations), how, *notes

    def rows(self) -> list[dict[str, Any]]:
        """Returns one row per set."""
        return [
            {
                **result.row(),
                "accuracy": result.evaluation.mean,
                "networks": len(result.evaluation.accuracies),
                **self.surrogates[result.name],
            }
            for result in self.results
        ]

    def correlation_rows(self) -> list[dict[str, Any]]:
        """Returns one row per group of sets and surrogate."""
        rows = []
        for row in map(asdict, self.correlations):
            for name in ("spearman", "kendall"):
                row[f"{name}_low"], row[f"{name}_high"] = row.pop(f"{name}_interval")
            rows.append(row)
        return rows

    def draw(self, path: str | Path) -> None:
        """Draws the error over each surrogate."""
        write_whole(Path(path), lambda file: draw_surrogates(self.results, self.surrogates, file))

    def save(self, folder: str | Path) -> None:
        """Writes ``surrogates.csv``, ``surrogates.png`` and ``correlations.csv`` to a folder."""
        files = {"surrogates.csv": as_table(self.rows()), "surrogates.png": self.draw}
        if self.correlations:
            files["correlations.csv"] = as_table(self.correlation_rows())
        write_files(Path(folder), files)


@checked
def surrogates_of(
    sets: Sets,
    data: Any = None,
    *,
    num_eval: Count = 5,
    epoch_eval_train: Count | None = None,
    lr: Rate | None = None,
    inner_steps: Count = 20,
    expert_epochs: Count = 3,
    max_real: Count = 500,
    seed: Seed = 0,
    out: str | Path | None = None,
    workers: Any = 1,
    accelerator: Accelerator | None = None,
    progress: bool = True,
    **probe: Any,
) -> MeasuredSurrogates:
    """Measures what methods match on given sets, and which of it ranks sets as their accuracy does.

    All sets are of the same real data, so their gap to the accuracy on all real images ranks them
    as their error does.

    Args:
        sets: Distilled or selected sets, at least 6 for rank correlations; see
            [`evaluate_set`][sdc_ext.evaluate_set].
        data: The real data; see [`evaluate_set`][sdc_ext.evaluate_set].
        num_eval: The number of networks that are trained on each set.
        epoch_eval_train: The number of epochs of that training; by default the set's own.
        lr: The learning rate of that training; by default the set's own.
        inner_steps: The number of steps that students take on a set for the trajectory
            discrepancy.
        expert_epochs: The number of epochs on the real images that they are compared with.
        max_real: The largest number of real images per class.
        seed: Seeds the networks, the choice of real images and the bootstrap.
        out: A folder for the tables and the chart; by default nothing is written.
        workers: The number of processes that train networks side by side, or an executor; see
            [`choose_workers`][sdc_ext.workers.choose_workers].
        accelerator: The Accelerator to run with; by default one that uses the machine's devices.
        progress: Show a progress bar.
        **probe: Settings of the networks under which all sets are compared, e.g.
            ``train_epochs=20``; see [`Probe`][sdc_ext.training.Probe]. By default they have the
            architecture that the first set was evaluated with.

    Returns:
        The discrepancies, the accuracies and the rank correlations, which print as tables.

    Raises:
        InputError: If a set cannot be read or does not fit the data, the sets are not of the same
            real data, or ``out`` exists.

    Reference: Luo and Xu, "Utility Boundary of Dataset Distillation" (arXiv 2512.05817).
    """
    check_free(out)
    accelerator = accelerator or make_accelerator()
    console = make_console(accelerator, progress)
    opened = open_sets(sets, data, accelerator, lr=lr)
    common = common_probe(opened, probe)
    check_same_data(opened)
    with make_progress(console) as bar:
        epochs = common.train_epochs
        task = bar.add_task(f"training {common.network}", total=epochs + len(opened))
        yardstick = Yardstick.of(
            opened[0].data,
            common,
            Inner(inner_steps, expert_epochs),
            max_real=max_real,
            seed=seed,
            device=accelerator.device,
            on_epoch=lambda: bar.advance(task),
        )
        bar.update(task, description="surrogates")
        values = measure_surrogates(
            (one.synthetic for one in opened), yardstick, lambda: bar.advance(task)
        )
    evaluated = evaluate_set(
        opened,
        networks=common.network,
        num_eval=num_eval,
        epoch_eval_train=epoch_eval_train,
        lr=lr,
        seed=seed,
        workers=workers,
        accelerator=accelerator,
        progress=progress,
    )
    by_name = {one.name: row for one, row in zip(opened, values, strict=True)}
    measured = MeasuredSurrogates(evaluated.results, by_name, common.network, seed)
    if out is not None and accelerator.is_main_process:
        measured.save(out)
    return measured

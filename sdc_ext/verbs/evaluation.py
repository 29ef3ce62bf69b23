"""The verb that evaluates sets: it trains networks on them and tests these on real images."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from rich.console import Console, RenderableType

from sdc_ext._console import make_progress
from sdc_ext._files import as_table, as_text, write_files, write_whole
from sdc_ext._values import Count, Rate, Seed, Temperature, checked
from sdc_ext.evaluation.configurations import Augmentations, Optimizers, Training
from sdc_ext.evaluation.jobs import AS_THE_SETS_SAY, Job, evaluate_sets, evaluation_jobs
from sdc_ext.evaluation.results import REAL, Results
from sdc_ext.evaluation.spread import Spread, spreads
from sdc_ext.report.configurations import draw_spread, spread_table
from sdc_ext.report.figures import draw_accuracies
from sdc_ext.report.kept_tables import ACCURACIES
from sdc_ext.report.shown import Shown
from sdc_ext.report.tables import cross_table
from sdc_ext.training.label_loss import LabelLossName
from sdc_ext.training.protocols import ProtocolName
from sdc_ext.training.recipe import ScheduleName
from sdc_ext.verbs.opening import Sets, open_sets
from sdc_ext.verbs.session import check_free, make_accelerator, make_console, network_names
from sdc_ext.workers import Workers, choose_workers

# More recipes than these are not written below a table.
_MOST_RECIPES = 4


@dataclass(frozen=True, repr=False)
class Evaluated(Shown):
    """The test accuracies of sets on several networks; they print as a table.

    Attributes:
        results: One result per set and configuration, with the accuracy of every trained network.
        training: What was chosen of the training.
    """

    results: Results
    training: Training = AS_THE_SETS_SAY

    @property
    def spreads(self) -> list[Spread]:
        """The worst, the mean and the spread of every set that has several configurations."""
        return spreads([r for r in self.results if r.synthetic.info.method != REAL])

    def tables(self) -> Sequence[RenderableType]:
        """Returns the table of mean accuracies, that of their spread, and the recipes."""
        found = self.spreads
        several = (spread_table(found),) if found else ()
        return (cross_table(self.results), *several, *self._recipes())

    def draw(self, path: str | Path) -> None:
        """Draws the accuracies with their standard deviations into a file."""
        found = self.spreads
        in_grid = any(name not in self._networks for one in found for name in one.evaluations)
        write_whole(
            Path(path),
            lambda file: (
                draw_spread(found, file) if in_grid else draw_accuracies(self.results, file)
            ),
        )

    def save(self, folder: str | Path) -> None:
        """Writes ``accuracies.csv``, ``accuracies.json`` and ``accuracies.png`` to a folder.

        Sets that were evaluated in several configurations are in ``configurations.csv``, too.
        """
        summary = json.dumps(self.results.summary(), indent=1)
        files = {
            "accuracies.csv": as_table(self.results.rows()),
            ACCURACIES: as_text(summary),
            "accuracies.png": self.draw,
        }
        if found := self.spreads:
            files["configurations.csv"] = as_table([one.row() for one in found])
        write_files(Path(folder), files)

    @property
    def _networks(self) -> set[str]:
        return {result.evaluation.network for result in self.results}

    def _recipes(self) -> list[str]:
        """Returns the recipes in words, if they are few."""
        lines = [f"recipe: {self.training}"]
        by_recipe: dict[str, list[str]] = {}
        for result in self.results:
            by_recipe.setdefault(result.recipe.words, []).append(result.name)
        if len(by_recipe) <= _MOST_RECIPES:
            named = [(", ".join(dict.fromkeys(names)), words) for words, names in by_recipe.items()]
            return [*lines, *(f"{names}: {words}" for names, words in named)]
        return [*lines, f"{len(by_recipe)} recipes; accuracies.csv has that of every network"]


@checked
def evaluate_set(
    sets: Sets,
    data: Any = None,
    *,
    networks: str | Callable[..., Any] | Sequence[str | Callable[..., Any]] | None = None,
    num_eval: Count = 5,
    epoch_eval_train: Count | None = None,
    lr: Rate | None = None,
    real_epochs: Count | None = None,
    protocol: ProtocolName | None = None,
    optimizers: Optimizers | None = None,
    schedule: ScheduleName | None = None,
    augmentations: Augmentations | None = None,
    mix: str | None = None,
    label_loss: LabelLossName | None = None,
    temperature: Temperature | None = None,
    teacher: str | None = None,
    seed: Seed = 0,
    out: str | Path | None = None,
    compile: bool = False,
    workers: Any = 1,
    stack: Count = 1,
    accelerator: Accelerator | None = None,
    progress: bool = True,
) -> Evaluated:
    """Trains fresh networks on a distilled set, or on several, and tests them on real images.

    Args:
        sets: A [`SyntheticSet`][sdc_ext.sets.SyntheticSet], the path of one in any known format,
            or several of them as a list or by name.
        data: The real data, as [`distill`][sdc_ext.distill] takes them; not needed for sets of the
            bundled digits.
        networks: The networks to train: names of the library or of timm, or functions that return
            a network; by default the network that each set was evaluated with.
        num_eval: The number of networks to train per set and architecture.
        epoch_eval_train: The number of training epochs; by default that of the set's own recipe.
        lr: The learning rate; by default that of the set's own recipe.
        real_epochs: The number of epochs for which networks are also trained on all real images;
            by default they are not.
        protocol: Trains as the evaluator of a repository does, ``"dc"``, ``"mtt"``,
            ``"ddranking"`` or ``"idc"``; by default each set's own recipe counts. All that is
            chosen besides precedes it.
        optimizers: The optimisers, ``"sgd"`` and ``"adamw"``. All combinations of networks,
            optimisers and augmentations are evaluated.
        schedule: The schedule of the learning rate; see
            [`TrainingRecipe`][sdc_ext.training.TrainingRecipe].
        augmentations: See [`parse_augmentation`][sdc_ext.augment.parse_augmentation].
        mix: See [`parse_mix`][sdc_ext.augment.parse_mix].
        label_loss: The loss of labels that are probabilities, ``"cross_entropy"`` or ``"kl"``.
        temperature: Softens labels that are probabilities, and what they are compared with.
        teacher: A network that is trained on all real images, for ``real_epochs`` or 20 epochs, and
            labels the images of the sets with its probabilities.
        seed: Seeds the networks; under one seed, sets are compared on the same initialisations.
        out: A folder for the tables and the chart, which are rewritten after every set and
            network; by default nothing is written.
        compile: Compile training and testing, which needs a C++ compiler.
        workers: The number of processes that train networks side by side, each with one thread, or
            an executor; see [`choose_workers`][sdc_ext.workers.choose_workers].
        stack: The number of networks that are trained at once as one stack, for GPUs; each worker
            takes as many at a time.
        accelerator: The Accelerator to run with; by default one that uses the machine's devices.
        progress: Show a progress bar.

    Returns:
        The accuracies in [0, 1], which print as a table in percent.

    Raises:
        InputError: If a set cannot be read or does not fit the data, a network does not fit the
            images, ``out`` exists, a choice applies to soft labels and no set has any, or a stack
            does not fit into memory.
    """
    check_free(out)
    training = Training(
        protocol, optimizers, schedule, augmentations, mix, label_loss, temperature, teacher
    )
    accelerator = accelerator or make_accelerator()
    chosen = choose_workers(workers, launched=accelerator.num_processes)
    jobs = evaluation_jobs(
        open_sets(sets, data, accelerator, lr=lr),
        networks=network_names(networks),
        epoch_eval_train=epoch_eval_train,
        lr_eval=lr,
        real_epochs=real_epochs,
        training=training,
    )
    return run_jobs(
        jobs,
        training=training,
        num_eval=num_eval,
        seed=seed,
        out=None if out is None else Path(out),
        compile=compile,
        workers=chosen,
        stack=stack,
        accelerator=accelerator,
        console=make_console(accelerator, progress),
    )


def run_jobs(
    jobs: Sequence[Job],
    *,
    training: Training,
    num_eval: int,
    seed: int,
    out: Path | None,
    compile: bool,
    workers: Workers,
    stack: int,
    accelerator: Accelerator,
    console: Console,
) -> Evaluated:
    """Carries out [`evaluate_set`][sdc_ext.evaluate_set] once its jobs are known and checked."""

    def save(results: Results) -> None:
        if out is not None and accelerator.is_main_process:
            Evaluated(results, training).save(
                out
            )  # after every job, so that interruptions cost little

    with make_progress(console) as bar:
        task = bar.add_task(str(jobs[0]), total=len(jobs) * num_eval)
        results = evaluate_sets(
            jobs,
            num_eval=num_eval,
            seed=seed,
            accelerator=accelerator,
            compile=compile,
            workers=workers,
            stack=stack,
            on_network=lambda job: bar.update(
                task, description=str(job), advance=accelerator.num_processes
            ),
            on_result=save,
            say=console.print,
        )
    return Evaluated(results, training)

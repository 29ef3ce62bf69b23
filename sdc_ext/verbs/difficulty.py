"""The verb that measures how hard samples are (SDC paper, Figures 3 and 7 to 12)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from rich.console import RenderableType
from torch import Tensor

from sdc_ext._console import make_progress
from sdc_ext._files import Writer, as_table, write_files, write_whole
from sdc_ext._values import Count, Seed, checked
from sdc_ext.adapters.methods import get_method
from sdc_ext.data.real import RealData
from sdc_ext.errors import check_choice
from sdc_ext.evaluation.difficulty import MEASURES, Difficulty, measure_difficulty, real_samples
from sdc_ext.evaluation.results import check_names
from sdc_ext.networks.create import check_network
from sdc_ext.report.difficulty_figures import (
    MOST_PANELS,
    PAIRS,
    draw_difficulty,
    draw_difficulty_by_class,
)
from sdc_ext.report.shown import Shown
from sdc_ext.report.tables import difficulty_table, rank_table
from sdc_ext.training.probe import Probe
from sdc_ext.verbs.opening import OpenedSet, Sets, check_same_data, common_probe, open_sets
from sdc_ext.verbs.session import (
    make_accelerator,
    make_console,
    make_probe,
    open_data,
    resolve_for,
)
from sdc_ext.workers import choose_workers


@dataclass(frozen=True, repr=False)
class MeasuredDifficulty(Shown):
    """The difficulty of samples for networks trained on real images; it prints as a table.

    Attributes:
        difficulty: The difficulty by the name of the samples and the epoch of scoring.
        labels: The labels by the name of the samples, (N,) int64 or probabilities (N, classes).
        network: The architecture of the networks.
        num_networks: The number of networks in the ensemble.
        dataset: The name of the real data.
        classes: The names of their classes.
    """

    difficulty: Mapping[tuple[str, int], Difficulty]
    labels: Mapping[str, Tensor]
    network: str
    num_networks: int
    dataset: str
    classes: tuple[str, ...]

    def tables(self) -> Sequence[RenderableType]:
        """Returns the tables of mean difficulties and rank correlations, and the ensemble.

        Up to 20 classes of the first samples, which are the real ones, have a row of their own.
        """
        trained = f"{self.num_networks} {self.network}, on the training images of {self.dataset}"
        ranks = list(self._ranks("all"))
        if len(self.classes) <= MOST_PANELS:
            first, last = next(iter(self.labels)), self._last
            of_classes = self.class_rows()
            ranks += [r for r in of_classes if (r["samples"], r["epoch"]) == (first, last)]
        return difficulty_table(self.difficulty), rank_table(ranks), trained

    def rows(self) -> list[dict[str, Any]]:
        """Returns one row per sample and epoch."""
        return [
            {
                "samples": name,
                "index": k,
                "label": label,
                "epoch": epoch,
                **{measure: float(getattr(d, measure)[k]) for measure in MEASURES},
            }
            for (name, epoch), d in self.difficulty.items()
            for k, label in enumerate(self._hard[name].tolist())
        ]

    def class_rows(self) -> list[dict[str, Any]]:
        """Returns one row per class of the samples and epoch: means and rank correlations."""
        return [row for label in range(len(self.classes)) for row in self._ranks(label)]

    def draw(self, path: str | Path) -> None:
        """Draws GraDN and loss against each other and misclassification, after the last epoch."""
        write_whole(Path(path), lambda file: draw_difficulty(self._of_last, file))

    def draw_by_class(
        self, path: str | Path, of: str = "gradn", over: str = "misclassified"
    ) -> None:
        """Draws two measures against each other in one panel per class, after the last epoch.

        Args:
            path: The picture to write.
            of: The measure to draw: ``"misclassified"``, ``"gradn"``, ``"loss"``, ``"el2n"`` or
                ``"margin"``.
            over: The measure on the horizontal axes.

        Raises:
            InputError: If a measure is unknown.

        Reference: SDC paper, Figures 7 to 12.
        """
        for measure in (of, over):
            check_choice("measure", measure, tuple(MEASURES))
        shown = self._of_last, self._hard, self.classes
        draw = partial(draw_difficulty_by_class, *shown, of=of, over=over)
        write_whole(Path(path), draw)

    def save(self, folder: str | Path) -> None:
        """Writes ``difficulty.csv`` and ``classes.csv``, and the pictures, to a folder.

        The pictures are ``difficulty.png`` and, by class, ``gradn-misclassified.png``,
        ``loss-misclassified.png`` and ``loss-gradn.png``.
        """
        files: dict[str, Writer] = {
            "difficulty.csv": as_table(self.rows()),
            "classes.csv": as_table(self.class_rows()),
            "difficulty.png": self.draw,
        }
        by_class = {f"{o}-{x}.png": partial(self.draw_by_class, of=o, over=x) for o, x in PAIRS}
        write_files(Path(folder), files | by_class)

    @property
    def _last(self) -> int:
        return max(epoch for _, epoch in self.difficulty)

    @property
    def _of_last(self) -> dict[str, Difficulty]:
        return {name: d for (name, epoch), d in self.difficulty.items() if epoch == self._last}

    @property
    def _hard(self) -> dict[str, Tensor]:
        """The classes (N,) of the samples; of soft labels, the most probable ones."""
        return {n: y if y.ndim == 1 else y.argmax(1) for n, y in self.labels.items()}

    def _ranks(self, label: int | Literal["all"]) -> Iterator[dict[str, Any]]:
        """Yields a row per samples and epoch for one class, if there are such samples, or all."""
        for (name, epoch), whole in self.difficulty.items():
            classes = self._hard[name]
            chosen = torch.ones_like(classes).bool() if isinstance(label, str) else classes == label
            if not bool(chosen.any()):
                continue
            d = whole.at(chosen)
            yield {
                "samples": name,
                "epoch": epoch,
                "class": label if isinstance(label, str) else self.classes[label],
                "n": int(chosen.sum()),
                **{measure: float(getattr(d, measure).mean()) for measure in MEASURES},
                **{f"rho {MEASURES[m]}": rho for m, rho in d.rank_correlations.items()},
                "rho GraDN, loss": d.rank_correlation("gradn", "loss"),
            }


@checked
def difficulty_of(
    sets: Sets = (),
    data: Any = None,
    *,
    split: Literal["test", "train"] = "test",
    per_class: Count = 100,
    num_networks: Count = 20,
    epochs: Sequence[Count] | None = None,
    seed: Seed = 0,
    workers: Any = 1,
    accelerator: Accelerator | None = None,
    progress: bool = True,
    **probe: Any,
) -> MeasuredDifficulty:
    """Measures how hard real and distilled samples are for networks trained on real images.

    Args:
        sets: Any number of distilled sets of the same data, possibly none; see
            [`evaluate_set`][sdc_ext.evaluate_set].
        data: The real data, as [`distill`][sdc_ext.distill] takes them; by default those of the
            sets, or the bundled digits.
        split: The real images to score, ``"test"`` or ``"train"``.
        per_class: The largest number of real images per class.
        num_networks: The number of networks in the ensemble; the paper uses 20.
        epochs: The epochs after which samples are scored; by default the last one.
        seed: Seeds the networks and the choice of real images.
        workers: The number of processes that train networks side by side, each with one thread, or
            an executor; see [`choose_workers`][sdc_ext.workers.choose_workers].
        accelerator: The Accelerator to run with; by default one that uses the machine's devices.
        progress: Show a progress bar.
        **probe: Settings of the networks' training, e.g. ``train_epochs=20``; see
            [`Probe`][sdc_ext.training.Probe]. By default the networks have the architecture that
            the first set was evaluated with.

    Returns:
        The misclassification, GraDN, loss, EL2N and margin of every sample, which print as tables
        of means and rank correlations.

    Raises:
        InputError: If a set cannot be read, belongs to other data than the first or is called what
            the real images are, a number is not above 0, or an epoch is outside of the training.

    Reference: SDC paper, Definitions 1 and 2.
    """
    accelerator = accelerator or make_accelerator()
    side_by_side = choose_workers(workers, launched=accelerator.num_processes)
    console = make_console(accelerator, progress)
    opened, real = _of_one_data(sets, data, accelerator)
    trained = _probe(opened, real, probe)
    samples = {f"real {split}": real_samples(real, split, per_class, seed)}
    check_names([one.name for one in opened], samples)
    samples |= {one.name: (one.synthetic.images, one.synthetic.labels) for one in opened}
    with make_progress(console) as bar:
        total = num_networks * trained.train_epochs
        task = bar.add_task(f"training {trained.network}", total=total)
        found = measure_difficulty(
            samples,
            real,
            trained,
            epochs=sorted(set(epochs or [trained.train_epochs])),
            networks=num_networks,
            seed=seed,
            accelerator=accelerator,
            workers=side_by_side,
            on_epoch=lambda: bar.advance(task, accelerator.num_processes),
            say=console.print,
        )
    labels = {name: labels for name, (_, labels) in samples.items()}
    return MeasuredDifficulty(found, labels, trained.network, num_networks, real.name, real.classes)


def _of_one_data(
    sets: Sets, data: Any, accelerator: Accelerator
) -> tuple[list[OpenedSet], RealData]:
    """Returns the sets and their real data, normalised as all of the sets are."""
    real = None if data is None else open_data(data, accelerator)
    opened = open_sets(sets, real, accelerator, trained_on=False) if sets else []
    if not opened:
        return [], open_data("digits", accelerator) if real is None else real
    check_same_data(opened)
    return opened, opened[0].data


def _probe(opened: Sequence[OpenedSet], data: RealData, settings: Mapping[str, Any]) -> Probe:
    """Returns the training of the networks; their default suits the first set or the data."""
    if opened:
        return common_probe(opened, settings)
    probe = make_probe(resolve_for(get_method("dc"), data, 1, {}).run.network, settings)
    check_network(probe.network, *data.network_shape)
    return probe

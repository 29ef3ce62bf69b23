"""The verb that measures how far distilled sets are from the real data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from accelerate import Accelerator
from rich.console import Console, RenderableType

from sdc_ext._console import make_progress
from sdc_ext._files import as_table, write_files, write_whole
from sdc_ext._kinds import Whole
from sdc_ext._values import Count, Names, Seed, check_fields, checked
from sdc_ext.errors import InputError, check_choice
from sdc_ext.evaluation.closeness import (
    SPACES,
    Closeness,
    compare_with_real,
    feature_maps,
)
from sdc_ext.evaluation.discrepancies import DISCREPANCIES, choose_discrepancies
from sdc_ext.report.figures import draw_closeness
from sdc_ext.report.shown import Shown
from sdc_ext.report.tables import closeness_table
from sdc_ext.training.probe import Probe
from sdc_ext.verbs.opening import OpenedSet, Sets, common_probe, open_sets
from sdc_ext.verbs.session import check_free, make_accelerator, make_console

# A standard deviation needs two of them.
Draws: TypeAlias = Annotated[int, Whole(2)]


@dataclass(frozen=True)
class Measurement:
    """A choice of measures, spaces and draws, checked before anything is trained.

    Attributes:
        measures: The names of discrepancies; see
            [`choose_discrepancies`][sdc_ext.evaluation.choose_discrepancies].
        spaces: The spaces in which images are compared: ``"pixels"``, and the features of
            ``"random"`` and ``"trained"`` networks.
        draws: The number of random sets to compare with, at least 2.
        max_real: The largest number of real images in a reference, per class and for all classes
            together.
        seed: Seeds the networks, the draws and the choice of real images.

    Raises:
        InputError: If a name is unknown or needs a package that is missing, or a number is too
            low.
    """

    measures: Names = tuple(DISCREPANCIES)
    spaces: Names = SPACES
    draws: Draws = 20
    max_real: Count = 2000
    seed: Seed = 0

    def __post_init__(self) -> None:
        check_fields(self)
        if not (self.measures and self.spaces):
            raise InputError("there is nothing to measure: pass `measures` and `spaces`")
        choose_discrepancies(self.measures)
        for space in self.spaces:
            check_choice("space", space, SPACES)


@dataclass(frozen=True, repr=False)
class MeasuredDiscrepancy(Shown):
    """The discrepancies of sets and of random real images; they print as a table of ratios.

    Attributes:
        closeness: The values by the name of the set, one per space, measure and class.
        measurement: The measures, spaces and draws.
        network: The architecture whose features were compared.
    """

    closeness: Mapping[str, Sequence[Closeness]]
    measurement: Measurement
    network: str

    def tables(self) -> Sequence[RenderableType]:
        """Returns the table of ratios, and a sentence on how they were measured."""
        how = self.measurement
        return closeness_table(self.closeness), (
            f"{how.draws} draws of random images; reference: training images, at most "
            f"{how.max_real} drawn at random; networks: {self.network}"
        )

    def rows(self) -> list[dict[str, Any]]:
        """Returns one row per set, space, measure and class."""
        return [
            {
                "set": name,
                "space": row.space,
                "measure": row.measure,
                "images": row.images,
                "network": "" if row.space == "pixels" else self.network,
                "seed": self.measurement.seed,
                "real": row.real,
                "synthetic": row.synthetic,
                "draws": len(row.random),
                "value": row.value,
                "random_mean": row.random_mean,
                "random_std": row.random_std,
                "ratio": row.ratio,
            }
            for name, of_set in self.closeness.items()
            for row in of_set
        ]

    def draw(self, path: str | Path) -> None:
        """Draws the ratios to random real images."""
        write_whole(Path(path), lambda file: draw_closeness(self.closeness, file))

    def save(self, folder: str | Path) -> None:
        """Writes ``discrepancies.csv`` and ``discrepancies.png`` to a folder."""
        files = {"discrepancies.csv": as_table(self.rows()), "discrepancies.png": self.draw}
        write_files(Path(folder), files)


@checked
def discrepancy_of(
    sets: Sets,
    data: Any = None,
    *,
    measurement: Measurement | None = None,
    out: str | Path | None = None,
    accelerator: Accelerator | None = None,
    progress: bool = True,
    **probe: Any,
) -> MeasuredDiscrepancy:
    """Measures how far sets are from the real data, relative to equally many random real images.

    Args:
        sets: One distilled set or several; see [`evaluate_set`][sdc_ext.evaluate_set].
        data: The real data; see [`evaluate_set`][sdc_ext.evaluate_set].
        measurement: The choice of measures and spaces; by default all that need no extra package.
        out: A folder for the table and the chart, which are rewritten after every set; by default
            nothing is written.
        accelerator: The Accelerator to run with; by default one that uses the machine's devices.
        progress: Show a progress bar.
        **probe: Settings of the networks whose features are compared, e.g. ``train_epochs=20``;
            see [`Probe`][sdc_ext.training.Probe]. By default they have the architecture that the
            first set was evaluated with.

    Returns:
        The discrepancies, which print as a table of ratios to random real images.

    Raises:
        InputError: If a set cannot be read or does not fit the data, the network does not fit the
            images, or ``out`` exists.

    Reference: Selvan and Chen, "A Discrepancy-Based Perspective on Dataset Condensation" (2025).
    """
    check_free(out)
    accelerator = accelerator or make_accelerator()
    opened = open_sets(sets, data, accelerator, trained_on=False)
    return measure_sets(
        opened,
        measurement or Measurement(),
        common_probe(opened, probe),
        out=None if out is None else Path(out),
        accelerator=accelerator,
        console=make_console(accelerator, progress),
    )


def measure_sets(
    opened: Sequence[OpenedSet],
    how: Measurement,
    probe: Probe,
    *,
    out: Path | None,
    accelerator: Accelerator,
    console: Console,
) -> MeasuredDiscrepancy:
    """Carries out [`discrepancy_of`][sdc_ext.discrepancy_of] once everything is checked."""
    by_data = {one.data.identity: one.data for one in opened}
    epochs = probe.train_epochs * len(by_data) if "trained" in how.spaces else 0
    steps = sum(1 + len(one.data.classes) for one in opened)
    found: dict[str, list[Closeness]] = {}
    measured = MeasuredDiscrepancy(found, how, probe.network)
    with make_progress(console) as bar:
        task = bar.add_task(f"training {probe.network}", total=steps + epochs)
        maps = {
            identity: feature_maps(
                how.spaces,
                data,
                probe,
                seed=how.seed,
                device=accelerator.device,
                on_epoch=lambda: bar.advance(task),
            )
            for identity, data in by_data.items()
        }
        for name, synthetic, data in opened:
            bar.update(task, description=name)
            found[name] = compare_with_real(
                synthetic,
                data,
                maps[data.identity],
                choose_discrepancies(how.measures),
                draws=how.draws,
                seed=how.seed,
                max_real=how.max_real,
                on_group=lambda: bar.advance(task),
            )
            if out is not None and accelerator.is_main_process:
                measured.save(out)  # after every set, so that interruptions cost little
    return measured

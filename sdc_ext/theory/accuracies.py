"""Reading measured accuracies of distilled sets from tables of ``evaluate`` and ``compare``."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from sdc_ext._reading import each_once, opened
from sdc_ext._values import checked
from sdc_ext.errors import InputError
from sdc_ext.evaluation.results import REAL

# The smallest standard error that is used: a few accuracies may agree closely by chance.
LEAST_ERROR = 0.002


Quantity: TypeAlias = Literal["gap", "error"]


_COLUMNS = ("method", "dataset", "images", "correction", "network", "accuracy")


# Columns of a configuration besides network, augmentation and epochs, which older tables lack, and
# what they hold where training is as usual.
_USUAL = {
    "whitening": "none",
    "optimizer": "sgd",
    "schedule": "step",
    "mix": "none",
    "label_loss": "cross_entropy",
    "temperature": "1.0",
    "teacher": "",
}


# Those that concern the labels of synthetic images alone, as they begin in words.
_OF_SYNTHETIC = ("teacher ", "label loss ", "temperature ")


@dataclass(frozen=True)
class Trained:
    """One trained network, which is one row of a table.

    Attributes:
        dataset: The name of the real data set.
        method: The distillation method, or ``"real"`` for all real images.
        correction: The weight of the correction as text, as tables have it.
        network: The architecture.
        augmentation: The augmentation in training; empty if the table does not have it.
        epochs: The number of training epochs as text; empty if the table does not have it.
        images: The number of images that the network was trained on.
        replicate: The name of the distilled set, or the seed with which it was distilled.
        accuracy: The accuracy on the test images, in [0, 1].
        others: What else is not usual in training, e.g. ``"optimizer adamw"``.
        distilled_with: The network or the pool with which the set was distilled; empty if the
            table does not have it.
        distilled_seed: The seed with which it was distilled; empty if the table does not have it.
        distilled_settings: The other settings that were chosen for it, with semicolons between
            them; None if the table does not have them.
        factor: The number of parts per side of its stored images as text.
        lr: The learning rate in training as text; empty if the table does not have it.
    """

    dataset: str
    method: str
    correction: str
    network: str
    augmentation: str
    epochs: str
    images: int
    replicate: str
    accuracy: float
    others: tuple[str, ...] = ()
    distilled_with: str = ""
    distilled_seed: str = ""
    distilled_settings: str | None = None
    factor: str = "1"
    lr: str = ""

    @property
    def family(self) -> Family:
        """The family of the set, as far as its network and its settings do not matter."""
        return Family(self.dataset, self.method, self.correction, factor=self.factor)

    @property
    def training(self) -> str:
        """The part of a configuration other than the network: augmentation, epochs and others."""
        augmentation, epochs = self.augmentation or "unknown", self.epochs or "unknown"
        return ", ".join([*self.others, f"augmentation {augmentation}", f"{epochs} epochs"])


@dataclass(frozen=True)
class Family:
    """A family of sets that differ only in size and seed.

    Attributes:
        dataset: The name of the real data set.
        method: The distillation method.
        correction: The weight of the correction as text, as tables have it.
        network: The network or the pool with which the sets were distilled, where a table has
            several; empty otherwise.
        factor: The number of parts per side of stored images as text.
        settings: Those of the other chosen settings in which sets of one size differ.
    """

    dataset: str
    method: str
    correction: str
    network: str = ""
    factor: str = "1"
    settings: str = ""

    def __str__(self) -> str:
        factor = "" if self.factor == "1" else f"factor {self.factor}"
        words = [f"{self.method} on {self.dataset}", self.correction, factor, self.settings]
        first, *others = self.network.split(",")
        if others:
            first = f"a pool of {len(others) + 1} networks"
        words.append(f"distilled with {first}" if first else "")
        return ", ".join(filter(None, words))


@dataclass(frozen=True)
class Series:
    """The gap or error of a family of sets on one configuration, by size.

    Attributes:
        family: The family of the sets.
        configuration: The network; also the optimiser, the augmentation and whatever else is not
            usual in its training, and the epochs, if the table has several.
        quantity: ``"gap"`` to the accuracy of networks trained on all real images, or ``"error"``
            if the table has no such networks.
        values: The quantity by number of images and by replicate, a mean over networks.
        reference_error: The standard error of the accuracy on all real images; 0 for ``"error"``.
        halves: As ``values``, the quantity by each half of the networks, whose noise is
            independent; of a single network twice the same.
    """

    family: Family
    configuration: str
    quantity: Quantity
    values: Mapping[int, Mapping[str, float]]
    reference_error: float
    halves: Mapping[int, Mapping[str, tuple[float, float]]] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.family}, {self.configuration}"


@checked
def read_accuracies(paths: Sequence[str | Path]) -> list[Trained]:
    """Reads tables with one row per trained network.

    Args:
        paths: Files with the columns of ``accuracies.csv``, which ``sdc-ext evaluate`` writes, or
            of ``cells.csv``, which ``sdc-ext compare`` writes. In the former, rows with the same
            name belong to the same set.

    Raises:
        InputError: If ``paths`` is a single path, a file is no such table, or a value is not a
            number or is out of range.
    """
    return [row for path in each_once(paths) for row in _read(Path(path))]


def _read(path: Path) -> Iterable[Trained]:
    try:
        with opened(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restval="")
            columns = reader.fieldnames or ()
            missing = [name for name in _COLUMNS if name not in columns]
            if "set" not in columns and "seed" not in columns:
                missing.append("set (or seed)")
            if missing:
                raise InputError(
                    f"{path} lacks the columns {', '.join(missing)}: pass accuracies.csv of "
                    "sdc-ext evaluate or cells.csv of sdc-ext compare"
                )
            rows = [_row(row, f"{path}, line {reader.line_num}") for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{path} is not a table of comma-separated values ({error}): pass accuracies.csv of "
            "sdc-ext evaluate or cells.csv of sdc-ext compare"
        ) from None
    if not rows:
        raise InputError(f"{path} has columns but no rows: evaluate some sets first")
    return rows


def _row(row: Mapping[str, str], where: str) -> Trained:
    if row.get("temperature"):  # whole numbers of Python and of spreadsheets have no ".0"
        number = _number(row["temperature"], f"{where}: temperature")
        row = {**row, "temperature": str(number)}
    if row.get("lr"):
        row = {**row, "lr": str(_number(row["lr"], f"{where}: lr"))}
    images = _number(row["images"], f"{where}: images")
    accuracy = _number(row["accuracy"], f"{where}: accuracy")
    if not (1 <= images <= 10**9 and images.is_integer()):
        raise InputError(f"{where}: images must be an integer above 0, got {images:g}")
    if not 0 <= accuracy <= 1:
        raise InputError(
            f"{where}: accuracy must be a fraction in [0, 1], got {row['accuracy']}: divide "
            "percentages by 100"
        )
    return Trained(
        dataset=row["dataset"],
        method=row["method"],
        correction=row["correction"],
        network=row["network"],
        augmentation=row.get("augmentation", ""),
        epochs=row.get("epochs", ""),
        images=int(images),
        replicate=row["set"] if "set" in row else row["seed"],
        accuracy=accuracy,
        others=tuple(
            f"{name.replace('_', ' ')} {row[name]}"
            for name, usual in _USUAL.items()
            if row.get(name, "") not in ("", usual)
        ),
        distilled_with=row.get("distilled_with", ""),
        distilled_seed=row.get("distilled_seed", ""),
        distilled_settings=row.get("distilled_settings"),
        factor=row.get("factor") or "1",
        lr=row.get("lr", ""),
    )


def _number(text: str, what: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{what} must be a number, got {text!r}") from None


def collect(rows: Sequence[Trained]) -> list[Series]:
    """Sorts rows into series, each of one family of sets on one configuration.

    Args:
        rows: The rows from [`read_accuracies`][sdc_ext.theory.read_accuracies].

    Returns:
        The series, in the order in which they first appear.

    Raises:
        InputError: If no row is of a distilled set, or a network was trained on a set at several
            learning rates, or on all real images for different numbers of epochs.
    """
    groups: dict[tuple[Family, str, str], list[Trained]] = defaultdict(list)
    for family, row in _by_family([row for row in rows if row.method != REAL]):
        groups[family, row.network, row.training].append(row)
    if not groups:
        raise InputError("all rows are on all real images: evaluate distilled sets, too")
    kinds = [(family, network) for family, network, _ in groups]
    series = []
    for (family, network, training), group in groups.items():
        alone = kinds.count((family, network)) == 1
        configuration = network if alone else f"{network}, {training}"
        series.append(_series(family, configuration, group, rows))
    return series


def shared_sets(series: Sequence[Series], *, fewest: int) -> dict[int, list[str]]:
    """Returns the replicates that all series have, by the size that they have at least some of.

    Args:
        series: The series, at least one.
        fewest: The smallest number of replicates with which a size counts.
    """
    found = {}
    for size in sorted(set.intersection(*(set(one.values) for one in series))):
        shared = sorted(set.intersection(*(set(one.values[size]) for one in series)))
        if len(shared) >= fewest:
            found[size] = shared
    return found


def _by_family(rows: Sequence[Trained]) -> Iterator[tuple[Family, Trained]]:
    """Yields rows with their families, which name what tells two apart.

    Settings often follow from the size, as the number of iterations may. So only those name a
    family in which sets of one size differ.
    """
    networks: dict[Family, set[str]] = defaultdict(set)
    alike: dict[tuple[Family, str, int], list[frozenset[str]]] = defaultdict(list)
    for row in rows:
        networks[row.family].add(row.distilled_with)
        if row.distilled_settings is not None:
            settings = frozenset(row.distilled_settings.split("; "))
            alike[row.family, row.distilled_with, row.images].append(settings)
    differing: dict[Family, set[str]] = defaultdict(set)
    for (family, _, _), of_size in alike.items():
        differing[family] |= frozenset.union(*of_size) - frozenset.intersection(*of_size)
    for row in rows:
        network = row.distilled_with if len(networks[row.family]) > 1 else ""
        chosen = (row.distilled_settings or "").split("; ")
        named = ", ".join(setting for setting in chosen if setting in differing[row.family])
        yield replace(row.family, network=network, settings=named), row


def _replicates(group: Sequence[Trained]) -> dict[tuple[int, str], str]:
    """Returns the replicates by the size and the name of the set, as seeds where these differ.

    Seeds pair the sets of two families, whose names differ.
    """
    seeds = {(row.images, row.replicate): row.distilled_seed for row in group}
    per_size = {(images, seed) for (images, _), seed in seeds.items() if seed}
    return seeds if len(per_size) == len(seeds) else {key: key[1] for key in seeds}


def _series(
    family: Family, configuration: str, group: Sequence[Trained], rows: Iterable[Trained]
) -> Series:
    cells: dict[int, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    names = _replicates(group)
    _check_rates(group)
    for row in group:
        cells[row.images][names[row.images, row.replicate]].append(row.accuracy)
    full = _reference(group[0], rows)
    best = float(np.mean(full)) if full else 1.0
    spread = float(np.std(full, ddof=1)) / len(full) ** 0.5 if len(full) > 1 else 0.0
    values = {
        images: {name: best - float(np.mean(a)) for name, a in sorted(cells[images].items())}
        for images in sorted(cells)
    }
    halves = {
        images: {name: _halves(best, accuracies) for name, accuracies in of_size.items()}
        for images, of_size in cells.items()
    }
    quantity: Quantity = "gap" if full else "error"
    error = max(spread, LEAST_ERROR) if full else 0.0
    return Series(family, configuration, quantity, values, error, halves)


def _check_rates(group: Sequence[Trained]) -> None:
    """Raises InputError if a set was trained on at several learning rates, which do not average."""
    rates: dict[tuple[int, str], str] = {}
    for row in group:
        first = rates.setdefault((row.images, row.replicate), row.lr) if row.lr else ""
        if row.lr != first:
            raise InputError(
                f"{row.network} was trained on {row.replicate} at the learning rates {first} and "
                f"{row.lr}: pass the table with only one of them"
            )


def _halves(best: float, accuracies: Sequence[float]) -> tuple[float, float]:
    first, second = accuracies[::2], accuracies[1::2] or accuracies
    return best - float(np.mean(first)), best - float(np.mean(second))


def _reference(like: Trained, rows: Iterable[Trained]) -> list[float]:
    """Returns accuracies of this network on all real images in the same configuration.

    A teacher does not label real images, and losses of probabilities do not concern them.
    """

    def kind(row: Trained) -> tuple[object, ...]:
        others = [one for one in row.others if not one.startswith(_OF_SYNTHETIC)]
        return row.dataset, row.network, row.augmentation, others

    real = [row for row in rows if row.method == REAL and kind(row) == kind(like)]
    epochs = sorted({row.epochs for row in real})
    if len(epochs) > 1:
        raise InputError(
            f"{like.network} was trained on all real images for {' and '.join(epochs)} epochs: "
            "pass the table with only one of them"
        )
    return [row.accuracy for row in real]

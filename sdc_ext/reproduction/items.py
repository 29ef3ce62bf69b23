"""What each of the paper's tables and figures compares."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sdc_ext.adapters import get_method, resolve
from sdc_ext.data.known import KNOWN, STATISTICS, ImageShape
from sdc_ext.reproduction.published import published_cells

# The data sets of the paper: their numbers of training images, and the shape of the images.
PAPER_DATA: Mapping[str, tuple[int, ImageShape]] = {
    name: (KNOWN[name].train, KNOWN[name].shape) for name in STATISTICS
}


@dataclass(frozen=True)
class Cell:
    """One setting of a table or figure.

    Attributes:
        method: The name of the method.
        dataset: The name of the paper's data set.
        ipc: The number of images per class.
    """

    method: str
    dataset: str
    ipc: int

    @property
    def lam(self) -> float:
        """The weight of the correction that the paper's Tables 4 to 8 give, or its default."""
        return resolve(get_method(self.method), self.dataset, self.ipc, {}).run.lam

    @property
    def folder(self) -> str:
        """The name of the folder of its runs."""
        return f"{self.method}-{self.dataset}-ipc{self.ipc}"

    def __str__(self) -> str:
        return f"{self.method} on {self.dataset}, ipc {self.ipc}"


# The arms of a cell, given the number of iterations of its runs; the first one has no correction.
Arms: TypeAlias = Callable[[Cell, int], Sequence[Mapping[str, Any]]]


@dataclass(frozen=True)
class Item:
    """A table or figure of the paper.

    Attributes:
        title: Its number and subject.
        claim: What the paper concludes from it.
        cells: The settings that it covers, in the paper's order.
        arms: What is compared in each of them.
        networks: Networks that are trained on the sets besides the one they were distilled with.
        fewest_iterations: The length below which a run says nothing about the item.
        tracks: Whether it is about GraDN over the iterations.
    """

    title: str
    claim: str
    cells: tuple[Cell, ...]
    arms: Arms
    networks: tuple[str, ...] = ()
    fewest_iterations: int = 1
    tracks: bool = False


def _with_and_without(cell: Cell, iterations: int) -> Sequence[Mapping[str, Any]]:
    del iterations
    return {"lam": 0.0}, {"lam": cell.lam}


def _grid(*lams: float) -> Arms:
    return lambda cell, iterations: [{"lam": lam} for lam in (0.0, *lams)]


# The ramps of adaptive SDC by method (SDC paper, Section 4.3); both last as long as the run.
_RAMPS = {"datm": (0.02, 0.08), "dsac": (0.002, 0.008)}


def _adaptive(cell: Cell, iterations: int) -> Sequence[Mapping[str, Any]]:
    start, end = _RAMPS[cell.method]
    return {"lam": 0.0}, {"lam": start}, {"lam_ramp": (start, end, iterations)}


def _cells_of(table: str) -> tuple[Cell, ...]:
    rows = [cell for cell in published_cells() if cell.table == table]
    return tuple(dict.fromkeys(Cell(row.method, row.dataset, row.ipc) for row in rows))


_GRADIENT, _TRAJECTORY = ("dc", "dsa", "dsac"), ("mtt", "ftd", "tesla", "datm")

_TUNED = (("ftd", "cifar10"), ("tesla", "cifar10"), ("dsa", "svhn"), ("dsac", "mnist"))

_GAINS = "the correction raises the accuracy"

ITEMS: Mapping[str, Item] = {
    "table1": Item(
        title="Table 1: gradient matching with and without SDC",
        claim=f"{_GAINS} in all 27 cells",
        cells=_cells_of("table1"),
        arms=_with_and_without,
    ),
    "table2": Item(
        title="Table 2: trajectory matching with and without SDC",
        claim=f"{_GAINS} in 30 of 32 cells",
        cells=_cells_of("table2"),
        arms=_with_and_without,
    ),
    "table3": Item(
        title="Table 3: the sets on other networks",
        claim=f"{_GAINS} in 29 of 30 cells",
        cells=_cells_of("table3"),
        arms=_with_and_without,
        networks=("resnet18", "vgg11", "alexnet", "lenet", "mlp"),
    ),
    "fig1": Item(
        title="Figure 1: GraDN over the iterations, and accuracy",
        claim="GraDN rises in gradient matching and falls in trajectory matching; "
        "with the correction it is lower, and the accuracy is higher",
        cells=(
            *(Cell(method, "fashionmnist", 1) for method in _GRADIENT),
            *(Cell(method, "cifar100", 1) for method in _TRAJECTORY),
        ),
        arms=_with_and_without,
        fewest_iterations=10,
        tracks=True,
    ),
    "fig5": Item(
        title="Figure 5: the best lam over ipc",
        claim="a lam of 0.002 suits most settings, and smaller sets want a larger one",
        cells=tuple(Cell(method, data, ipc) for method, data in _TUNED for ipc in (1, 10, 50)),
        arms=_grid(0.0002, 0.002, 0.02),
    ),
    "fig6": Item(
        title="Figure 6: adaptive SDC",
        claim="a lam that grows during the run is better than a constant one, "
        "and that is better than none",
        cells=(Cell("datm", "cifar100", 1), Cell("dsac", "fashionmnist", 1)),
        arms=_adaptive,
        fewest_iterations=2,
    ),
    "fig14": Item(
        title="Figure 14: sensitivity to lam",
        claim="the accuracy hardly depends on lam",
        cells=(Cell("dsa", "svhn", 1), Cell("dc", "svhn", 10)),
        arms=_grid(0.0002, 0.001, 0.005, 0.02),
    ),
}
"""The tables and figures by name."""

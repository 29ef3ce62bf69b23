"""Figure 4 (b) of the SDC paper as a map: when easy samples beat hard ones, by theory."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from sdc_ext._figures import save_figure
from sdc_ext.errors import InputError
from sdc_ext.theory.perceptron import LEAST_SHARE, Keep, Selection, solve
from sdc_ext.theory.perceptron_simulation import Simulation, Simulator
from sdc_ext.theory.saddle_point import Array
from sdc_ext.workers.pool import SERIAL, Workers

_COLORS = "RdBu"
_KEPT: tuple[Keep, Keep] = ("easy", "hard")


@dataclass(frozen=True)
class Grid:
    """The places of a map.

    Attributes:
        gammas: The angles between probe and teacher in degrees, one panel each.
        shares: The kept shares f, at least 1e-6 and below 1, increasing.
        totals: The numbers of samples per dimension before the selection, increasing;
            ``f * total`` of them are kept.
        simulated: The shares and totals that are simulated, for the dots.

    Raises:
        InputError: If a share is out of range.
    """

    gammas: Sequence[float] = (0.0, 10.0, 20.0)
    shares: Sequence[float] = tuple(np.linspace(0.1, 0.9, 17).round(3).tolist())
    totals: Sequence[float] = tuple(np.geomspace(0.5, 16.0, 21).tolist())
    simulated: Sequence[tuple[float, float]] = tuple(
        (share, total) for share in (0.2, 0.5, 0.8) for total in (0.5, 2.0, 8.0)
    )

    def __post_init__(self) -> None:
        shares = *self.shares, *(f for f, _ in self.simulated)
        outside = [f for f in shares if not LEAST_SHARE <= f < 1]
        if outside:
            raise InputError(
                f"the kept shares of a map must be between {LEAST_SHARE:g} and 1, "
                f"got {outside[0]:g}"
            )

    def row(self, cell: tuple[float, float]) -> list[tuple[float, float]]:
        """Returns the errors on easy and on hard samples at each total, for a gamma and an f."""
        gamma, share = cell
        alphas = [share * total for total in self.totals]
        curves = (solve(Selection(keep, share, math.radians(gamma)), alphas) for keep in _KEPT)
        return list(zip(*(curve.errors for curve in curves), strict=True))


@dataclass(frozen=True)
class Map:
    """The test errors of students on easy and on hard samples, over totals and shares.

    Attributes:
        grid: The places of the map.
        errors: The errors on easy and on hard samples (shares, totals, 2), by gamma.
        dots: The simulations on easy and on hard samples by gamma, share and total; empty if
            nothing was simulated.
    """

    grid: Grid
    errors: dict[float, Array]
    dots: dict[tuple[float, float, float], tuple[Simulation, Simulation]] = field(
        default_factory=dict
    )

    def gains(self, gamma: float) -> Array:
        """Returns by how many points easy samples beat hard ones (shares, totals)."""
        easy, hard = np.moveaxis(self.errors[gamma], -1, 0)
        return np.asarray(100 * (hard - easy))

    def boundary(self) -> list[dict[str, float | None]]:
        """Returns by share and gamma the smallest total at which hard samples are as good.

        It is interpolated between the places of the map; None if easy samples are better at all of
        them.
        """
        rows: list[dict[str, float | None]] = []
        for k, share in enumerate(self.grid.shares):
            ends = {f"{g:g}°": _first_zero(self.grid.totals, self.gains(g)[k]) for g in self.errors}
            rows.append({"f": share, **ends})
        return rows

    @property
    def agreeing(self) -> int:
        """The number of simulated gains that agree with the theory.

        They agree within three standard errors plus ``1 / dimensions``, since the errors of either
        selection deviate by half of that in finitely many dimensions.
        """
        return sum(
            abs(hard.mean - easy.mean - self._expected(*place))
            <= 3 * math.hypot(easy.standard_error, hard.standard_error) + 1 / easy.dimensions
            for place, (easy, hard) in self.dots.items()
        )

    def _expected(self, gamma: float, share: float, total: float) -> float:
        ((easy, hard),) = Grid((gamma,), (share,), (total,)).row((gamma, share))
        return hard - easy

    def rows(self) -> list[dict[str, Any]]:
        """Returns one row per place of the theory, and one per simulated place."""
        theory = [
            {"gamma": gamma, "f": share, "total": total, "alpha": share * total, "by": "theory"}
            | {"easy": errors[k, j, 0], "hard": errors[k, j, 1], "gain": self.gains(gamma)[k, j]}
            | {"standard_error": None}
            for gamma, errors in self.errors.items()
            for k, share in enumerate(self.grid.shares)
            for j, total in enumerate(self.grid.totals)
        ]
        simulated = [
            {"gamma": gamma, "f": share, "total": total, "alpha": share * total, "by": "simulation"}
            | {"easy": easy.mean, "hard": hard.mean, "gain": 100 * (hard.mean - easy.mean)}
            | {"standard_error": 100 * math.hypot(easy.standard_error, hard.standard_error)}
            for (gamma, share, total), (easy, hard) in self.dots.items()
        ]
        return [*theory, *simulated]


def solve_map(
    grid: Grid,
    simulator: Simulator | None,
    *,
    workers: Workers = SERIAL,
    on_row: Callable[[], object] = lambda: None,
    say: Callable[[str], object] = lambda line: None,
) -> Map:
    """Solves the theory at all places of a map, and simulates some of them.

    Args:
        grid: The places.
        simulator: Simulates the dots; None leaves them out.
        workers: The workers that solve the rows of the map side by side.
        on_row: Called after each row, i.e. after each gamma and share.
        say: Called with a line about workers that were lost.

    Raises:
        InputError: If a solution is not found, or a point is too large to simulate.
    """
    cells = [(gamma, share) for gamma in grid.gammas for share in grid.shares]
    solved = workers.map(Grid.row, grid, cells, on_done=lambda k, row: on_row(), say=say)
    shape = len(grid.gammas), len(grid.shares), len(grid.totals), 2
    found = Map(grid, dict(zip(grid.gammas, np.reshape(solved, shape), strict=True)))
    if simulator is not None:
        for gamma in grid.gammas:
            for share, total in grid.simulated:
                easy, hard = (
                    simulator(Selection(keep, share, math.radians(gamma)), share * total)
                    for keep in _KEPT
                )
                found.dots[gamma, share, total] = easy, hard
    return found


def _first_zero(totals: Sequence[float], gains: Array) -> float | None:
    below = np.nonzero(gains <= 0)[0]
    if len(below) == 0:
        return None
    k = int(below[0])
    if k == 0:
        return totals[0]
    part = gains[k - 1] / (gains[k - 1] - gains[k])
    low, high = math.log(totals[k - 1]), math.log(totals[k])
    return math.exp(low + part * (high - low))


def draw_map(found: Map, path: Path) -> None:
    """Draws one panel per gamma: the gain of easy over hard samples, and the line at which it ends.

    Blue is where easy samples are better. Dots are simulations, in the same colours.

    Reference: SDC paper, Figure 4 (b) and (c).
    """
    gammas = found.grid.gammas
    figure = Figure(figsize=(3.4 * len(gammas) + 1.2, 3.6), layout="constrained")
    panels = figure.subplots(1, len(gammas), squeeze=False, sharey=True)[0]
    gains = np.concatenate([found.gains(gamma).ravel() for gamma in gammas])
    norm = TwoSlopeNorm(0.0, min(float(gains.min()), -0.1), max(float(gains.max()), 0.1))
    for panel, gamma in zip(panels, gammas, strict=True):
        _draw_panel(panel, found, gamma, norm)
    panels[0].set_ylabel("kept share f")
    bar = figure.colorbar(ScalarMappable(norm, _COLORS), ax=panels.tolist())
    bar.set_label("gain of easy over hard, points")
    save_figure(figure, path)


def _draw_panel(panel: Axes, found: Map, gamma: float, norm: TwoSlopeNorm) -> None:
    totals, shares = found.grid.totals, found.grid.shares
    gains = found.gains(gamma)
    panel.pcolormesh(totals, shares, gains, norm=norm, cmap=_COLORS, shading="gouraud")
    if gains.min() < 0 < gains.max():
        panel.contour(totals, shares, gains, levels=[0.0], colors="0.2", linewidths=1)
    dots = {place[1:]: dot for place, dot in found.dots.items() if place[0] == gamma}
    if dots:
        values = [100 * (hard.mean - easy.mean) for easy, hard in dots.values()]
        y, x = zip(*dots, strict=True)
        panel.scatter(x, y, c=values, norm=norm, cmap=_COLORS, edgecolors="0.2", s=40)
    panel.set_xscale("log")
    panel.set_xlim(totals[0], totals[-1])
    panel.set_ylim(shares[0], shares[-1])
    panel.set_xlabel("samples per dimension before selection")
    panel.set_title(f"angle of the probe {gamma:g}°", fontsize=10)

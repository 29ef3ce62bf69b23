"""Figures 4 and 15 of the SDC paper: the theory of perceptrons as lines, simulations as dots."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sdc_ext._figures import save_figure
from sdc_ext.errors import InputError
from sdc_ext.theory.perceptron import Curve, Keep, Selection, crossover, solve
from sdc_ext.theory.perceptron_simulation import Simulation, Simulator

_STYLES: dict[Keep, str] = {"easy": "-", "hard": "--", "all": "-"}


@dataclass(frozen=True)
class Setting:
    """The selections and numbers of samples that a figure compares.

    Attributes:
        gammas: The angles between probe and teacher in degrees, one panel each.
        shares: The kept shares f, at least 1e-6 and below 1, one colour each.
        simulated: The numbers of kept samples per dimension that are simulated, for the dots.
        alphas: The numbers of kept samples per dimension for the lines; they include
            ``simulated``.

    Raises:
        InputError: If a value is out of range, or ``alphas`` lack one.
    """

    gammas: Sequence[float] = (0.0, 10.0, 20.0)
    shares: Sequence[float] = (0.2, 0.5, 0.8)
    simulated: Sequence[float] = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0)
    alphas: Sequence[float] = tuple(sorted({*np.geomspace(0.2, 9.0, 24).tolist(), *simulated}))

    def __post_init__(self) -> None:
        if any(share >= 1 for share in self.shares):
            raise InputError(
                f"shares must be below 1, got {max(self.shares):g}: leave it out, since the curve "
                "of all samples is always drawn"
            )
        missing = [alpha for alpha in self.simulated if alpha not in self.alphas]
        if missing:
            raise InputError(f"alphas must include those simulated, and lack {missing[0]:g}")
        for gamma in self.gammas:
            self.selections(gamma)

    def selections(self, gamma: float) -> list[Selection]:
        """Returns the selections of one panel: easy and hard for each share, all at the end."""
        radians = math.radians(gamma)
        kept: tuple[Keep, ...] = ("easy", "hard")
        selected = [Selection(keep, f, radians) for f in self.shares for keep in kept]
        return [*selected, Selection("all", 1.0, radians)]


@dataclass(frozen=True)
class Study:
    """The curves and dots of a figure.

    Attributes:
        setting: The selections and numbers of samples that are compared.
        curves: The learning curve of each selection.
        dots: The simulations by selection and alpha; empty if nothing was simulated.
    """

    setting: Setting
    curves: dict[Selection, Curve]
    dots: dict[tuple[Selection, float], Simulation] = field(default_factory=dict)

    def rows(self) -> list[dict[str, Any]]:
        """Returns one row per selection and alpha, with simulated errors where there are any."""
        rows = []
        for selection, curve in self.curves.items():
            for alpha, student in zip(curve.alphas, curve.students, strict=True):
                dot = self.dots.get((selection, alpha))
                rows.append(
                    {
                        "gamma": round(math.degrees(selection.gamma), 9),
                        "keep": selection.keep,
                        "f": selection.f,
                        "alpha": alpha,
                        "error": student.error,
                        "overlap": student.overlap,
                        "probe_overlap": student.probe_overlap,
                        "margin": student.margin,
                        "simulated": None if dot is None else dot.mean,
                        "standard_error": None if dot is None else dot.standard_error,
                    }
                )
        return rows

    @property
    def agreeing(self) -> int:
        """The number of simulations that agree with the theory.

        They agree within three standard errors plus ``0.5 / dimensions``.
        """
        errors = {
            (selection, alpha): error
            for selection, curve in self.curves.items()
            for alpha, error in zip(curve.alphas, curve.errors, strict=True)
        }
        return sum(
            abs(dot.mean - errors[place]) <= 3 * dot.standard_error + 0.5 / dot.dimensions
            for place, dot in self.dots.items()
        )

    def crossovers(self) -> list[dict[str, float | None]]:
        """Returns one row per gamma and share: the alphas at which two selections are equal."""
        rows: list[dict[str, float | None]] = []
        for gamma in self.setting.gammas:
            *selected, everything = (self.curves[s] for s in self.setting.selections(gamma))
            for easy, hard in zip(selected[::2], selected[1::2], strict=True):
                rows.append(
                    {
                        "gamma": gamma,
                        "f": easy.selection.f,
                        "easy = hard": crossover(easy, hard),
                        "hard = all": crossover(hard, everything),
                        "easy = all": crossover(easy, everything),
                    }
                )
        return rows


def study(
    setting: Setting, simulator: Simulator | None, on_curve: Callable[[], object] = lambda: None
) -> Study:
    """Solves the theory of all selections of a figure, and simulates some of their points.

    Args:
        setting: The selections and numbers of samples to compare.
        simulator: Simulates the dots; None leaves them out.
        on_curve: Called after each curve.

    Raises:
        InputError: If a solution is not found, or a point is too large to simulate.
    """
    found = Study(setting, {})
    for gamma in setting.gammas:
        for selection in setting.selections(gamma):
            found.curves[selection] = solve(selection, setting.alphas)
            if simulator is not None:
                for alpha in setting.simulated:
                    found.dots[selection, alpha] = simulator(selection, alpha)
            on_curve()
    return found


def draw_study(found: Study, path: Path) -> None:
    """Draws one column per gamma: test errors above, the gain of easy over hard below."""
    gammas = found.setting.gammas
    figure = Figure(figsize=(3.6 * len(gammas) + 0.8, 6.0), layout="constrained")
    axes = figure.subplots(2, len(gammas), squeeze=False, sharex=True, sharey="row")
    for column, gamma in enumerate(gammas):
        _draw_errors(axes[0, column], found, gamma)
        _draw_gains(axes[1, column], found, gamma)
    axes[0, 0].set_ylabel("test error")
    axes[1, 0].set_ylabel("gain of easy over hard, points")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=min(7, 3 * len(gammas)), fontsize=8
    )
    save_figure(figure, path)


def _draw_errors(axis: Axes, found: Study, gamma: float) -> None:
    for selection in found.setting.selections(gamma):
        curve = found.curves[selection]
        color = _color(found.setting, selection)
        name = "all" if selection.keep == "all" else f"{selection.keep}, f = {selection.f:g}"
        axis.plot(curve.alphas, curve.errors, _STYLES[selection.keep], color=color, label=name)
        dots = {alpha: dot for (of, alpha), dot in found.dots.items() if of == selection}
        if dots:
            bars = [dot.standard_error for dot in dots.values()]
            means = [dot.mean for dot in dots.values()]
            axis.errorbar(list(dots), means, bars, fmt="o", markersize=3, color=color)
    axis.set_title(f"angle of the probe {gamma:g}°", fontsize=10)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.grid(alpha=0.3)


def _draw_gains(axis: Axes, found: Study, gamma: float) -> None:
    *selected, _ = found.setting.selections(gamma)
    for easy, hard in zip(selected[::2], selected[1::2], strict=True):
        gain = np.subtract(found.curves[hard].errors, found.curves[easy].errors)
        axis.plot(found.curves[easy].alphas, 100 * gain, color=_color(found.setting, easy))
    axis.axhline(0, color="0.3", linewidth=0.8)
    axis.set_xlabel("kept samples per dimension")
    axis.grid(alpha=0.3)


def _color(setting: Setting, selection: Selection) -> str:
    return "0.2" if selection.keep == "all" else f"C{list(setting.shares).index(selection.f)}"

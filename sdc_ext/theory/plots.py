"""Figures of fitted laws beside measurements, drawn without a display."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sdc_ext._figures import as_written, save_figure
from sdc_ext.theory.coverage import Coverage
from sdc_ext.theory.scaling import Scaling
from sdc_ext.theory.side_by_side import SideBySide

_MOST_COLUMNS = 3
_DASHES = {"S0": ":", "S1": "-.", "S2": "-"}


def draw_scaling(laws: Sequence[Scaling], path: Path) -> None:
    """Draws one panel per series, with all laws and the 95 % band and floor of the chosen one."""
    columns = min(len(laws), _MOST_COLUMNS)
    rows = -(-len(laws) // columns)
    figure = Figure(figsize=(4.2 * columns + 0.4, 3.6 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, law in zip(panels, laws, strict=False):
        _draw_series(panel, law)
    for panel in panels[len(laws) :]:
        panel.set_axis_off()
    save_figure(figure, path)


def _draw_series(panel: Axes, law: Scaling) -> None:
    points, chosen = law.points, law.laws[law.chosen]
    fine = np.geomspace(points.sizes[0], points.sizes[-1], 100)
    low, high = np.transpose(chosen.band)
    panel.fill_between(points.sizes, low, high, color="C0", alpha=0.2, linewidth=0)
    for name, fitted in law.laws.items():
        color, width = ("C0", 1.5) if name == law.chosen else ("0.5", 0.9)
        panel.plot(fine, fitted(fine), _DASHES[name], color=color, linewidth=width, label=name)
    if chosen.floor > 0:
        panel.axhline(chosen.floor, color="C0", linestyle="--", linewidth=0.9)
    errors = np.array(points.standard_errors)
    panel.errorbar(points.sizes, points.means, errors, fmt="o", color="0.2", markersize=4)
    panel.set_xscale("log")
    # A gap may reach 0, which a logarithmic axis cannot show.
    if np.min(np.array(points.means) - errors) > 0:
        panel.set_yscale("log")
    panel.set_xlabel("images")
    panel.set_ylabel(law.series.quantity)
    title = f"{law.series.family}\n{law.series.configuration}: {law.verdict}"
    panel.set_title(as_written(title), fontsize=8)
    panel.grid(alpha=0.3)
    panel.legend(fontsize=8)


def draw_coverage(laws: Sequence[Coverage], path: Path) -> None:
    """Draws one row per family: the worst of M over the size, and the required size over M."""
    figure = Figure(figsize=(9, 3.6 * len(laws)), layout="constrained")
    for (left, right), law in zip(figure.subplots(len(laws), 2, squeeze=False), laws, strict=True):
        _draw_worst(left, law)
        _draw_required(right, law)
    save_figure(figure, path)


def draw_side_by_side(results: Sequence[SideBySide], path: Path) -> None:
    """Draws one row per pair of families: the worst of the largest M, and the differences by M."""
    figure = Figure(figsize=(9, 3.6 * len(results)), layout="constrained")
    panels = figure.subplots(len(results), 2, squeeze=False)
    for (left, right), result in zip(panels, results, strict=True):
        _draw_both(left, result)
        _draw_differences(right, result)
    save_figure(figure, path)


def _draw_both(panel: Axes, result: SideBySide) -> None:
    for k, (family, rows) in enumerate(zip(result.families, result.worst, strict=True)):
        label = as_written(family.network or str(family))
        panel.plot(result.sizes, rows[-1], "o-", color=f"C{k}", markersize=4, label=label)
    panel.axhline(result.target, color="0.3", linestyle="--", linewidth=0.9)
    panel.set_xscale("log")
    panel.set_xlabel("images")
    panel.set_ylabel(f"{result.quantity} of the worst of {result.counts[-1]}")
    panel.grid(alpha=0.3)
    panel.legend(fontsize=7)


def _draw_differences(panel: Axes, result: SideBySide) -> None:
    for s, size in enumerate(result.sizes):
        column = [row[s] for row in result.differences]
        means = np.array([one.mean for one in column])
        bounds = np.abs(np.transpose([one.interval for one in column]) - means)
        places = np.array(result.counts) * 1.05**s  # side by side
        panel.errorbar(places, means, bounds, fmt="o", markersize=4, label=f"{size} images")
    panel.axhline(0, color="0.3", linewidth=0.9)
    panel.set_xscale("log")
    panel.set_xticks(result.counts, [str(m) for m in result.counts])
    panel.minorticks_off()
    panel.set_xlabel("configurations M")
    panel.set_ylabel("first minus second, 95 % interval")
    panel.grid(alpha=0.3)
    panel.legend(fontsize=8)


def _draw_worst(panel: Axes, law: Coverage) -> None:
    fine = np.geomspace(law.sizes[0], law.sizes[-1], 100)
    for k, (count, row) in enumerate(zip(law.counts, law.worst, strict=True)):
        panel.plot(law.sizes, row, "o", color=f"C{k}", markersize=4, label=f"M = {count}")
        panel.plot(fine, law.predicted(fine, count), color=f"C{k}", linewidth=1)
    panel.axhline(law.target, color="0.3", linestyle="--", linewidth=0.9)
    panel.set_xscale("log")
    panel.set_xlabel("images")
    panel.set_ylabel(f"{law.quantity} of the worst of M")
    panel.set_title(as_written(f"{law.family}, law with ln M"), fontsize=8)
    panel.grid(alpha=0.3)
    panel.legend(fontsize=8)


def _draw_required(panel: Axes, law: Coverage) -> None:
    for censored, marker in (("none", "o"), ("above", "^"), ("below", "v")):
        chosen = [r for r in law.required if r.censored == censored]
        if chosen:
            label = "measured" if censored == "none" else f"{censored} the measured sizes"
            places, images = [r.count for r in chosen], [r.images for r in chosen]
            panel.plot(places, images, marker, color="C0", label=label)
    line = law.trends["ln M"]
    if line is not None:
        fine = np.geomspace(1, law.counts[-1], 50)
        panel.plot(fine, line.intercept + line.slope * np.log(fine), color="C0", linewidth=1)
    panel.set_xscale("log")
    panel.set_xticks(law.counts, [str(m) for m in law.counts])
    panel.minorticks_off()
    panel.set_xlabel("configurations M")
    panel.set_ylabel(f"images for {law.quantity} {law.target:.3g}")
    panel.grid(alpha=0.3)
    panel.legend(fontsize=8)

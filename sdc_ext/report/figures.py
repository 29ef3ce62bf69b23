"""Figures of distilled sets, runs and measurements, drawn without a display."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from sdc_ext._figures import as_written, save_figure
from sdc_ext.evaluation.tracking import running_mean
from sdc_ext.sets.grid import MOST_COLUMNS, as_pictures
from sdc_ext.strength import lam_or_share

if TYPE_CHECKING:
    from sdc_ext.evaluation.closeness import Closeness
    from sdc_ext.evaluation.comparison import Comparison
    from sdc_ext.evaluation.results import Result
    from sdc_ext.sets.synthetic_set import SyntheticSet


# Longer names do not fit beside each other.
_LONG_NAME = 12


def draw_comparison(rows: Mapping[str, SyntheticSet], path: Path) -> None:
    """Draws the first image of each class of several sets, one row per set.

    Args:
        rows: The sets by their titles, which stand at the left of the rows.
        path: The picture to write.
    """
    classes = next(iter(rows.values())).info.classes[:MOST_COLUMNS]
    figure = Figure(figsize=(0.9 * len(classes) + 3, len(rows) + 0.3), layout="constrained")
    axes = figure.subplots(len(rows), len(classes), squeeze=False)
    for row, (title, synthetic) in enumerate(rows.items()):
        pixels = as_pictures(synthetic.pixels())
        label = as_written(title)
        axes[row, 0].set_ylabel(label, fontsize=9, rotation=0, ha="right", va="center")
        for column in range(len(classes)):
            axis = axes[row, column]
            axis.set_xticks([])
            axis.set_yticks([])
            image = pixels[synthetic.hard_labels.numpy() == column][0]
            axis.imshow(image, cmap="gray", vmin=0, vmax=1)
    save_figure(figure, path)


def draw_curves(
    history: Mapping[str, Sequence[float]], path: Path, over: str = "iteration"
) -> None:
    """Draws the matching loss and the difficulty (GraDN) over iterations, with running means.

    Args:
        history: The columns ``matching``, ``difficulty`` and ``over``, of equal length; a column
            of NaN alone is left out.
        path: The picture to write.
        over: The column on the horizontal axis.
    """
    labels = {"matching": "matching loss", "difficulty": "GraDN (difficulty)"}
    drawn = [name for name in labels if not np.isnan(history[name]).all()]
    figure = Figure(figsize=(4 * len(drawn), 3), layout="constrained")
    for axis, name in zip(figure.subplots(1, len(drawn), squeeze=False)[0], drawn, strict=True):
        skipped, mean = running_mean(history[name])
        axis.plot(history[over], history[name], color="C0", linewidth=0.7, alpha=0.35)
        axis.plot(history[over][skipped:], mean, color="C0", linewidth=1.5)
        axis.set_xlabel(over)
        axis.set_title(labels[name], fontsize=10)
        axis.grid(alpha=0.3)
    save_figure(figure, path)


def draw_accuracies(results: Sequence[Result], path: Path) -> None:
    """Draws one group of bars per network, with one bar per set and its standard deviation."""
    names = list(dict.fromkeys(result.name for result in results))
    networks = list(dict.fromkeys(result.evaluation.network for result in results))
    width = 0.8 / len(names)
    figure = Figure(figsize=(max(5, 0.5 * len(results) + 2), 3.6), layout="constrained")
    axis = figure.subplots()
    for k, name in enumerate(names):
        of_set = [r.evaluation for r in results if r.name == name]
        places = [networks.index(e.network) + (k - (len(names) - 1) / 2) * width for e in of_set]
        means, stds = [100 * e.mean for e in of_set], [100 * e.std for e in of_set]
        axis.bar(places, means, width, yerr=stds, capsize=2, label=as_written(name))
    axis.set_xticks(range(len(networks)), map(as_written, networks), rotation=20, ha="right")
    axis.set_ylabel("test accuracy %")
    axis.grid(axis="y", alpha=0.3)
    axis.set_axisbelow(True)
    if len(names) > 1:
        figure.legend(loc="outside upper center", ncols=3, fontsize=8)
    else:
        axis.set_title(as_written(names[0]), fontsize=9)
    save_figure(figure, path)


def draw_differences(comparison: Comparison, path: Path) -> None:
    """Draws accuracies by arm, joined by seed, and the paired gains with their 95 % intervals.

    Thick intervals are Student's t; thin ones stay valid if seeds are added after a look, and are
    left out where they are unbounded.
    """
    arms = comparison.arms
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    places = range(len(arms))
    by_seed = zip(*(comparison.accuracies(arm) for arm in arms), strict=True)
    for values in by_seed:
        left.plot(places, [100 * v for v in values], color="0.6", linewidth=0.8, marker=".")
    means = [100 * float(np.mean(comparison.accuracies(arm))) for arm in arms]
    left.plot(places, means, color="C0", linewidth=2, marker="o")
    left.set_title("test accuracy %, one line per seed", fontsize=10)
    for place, gain in enumerate(comparison.gains, start=1):
        difference = gain.difference
        low, high = (100 * bound for bound in difference.t_interval)
        anytime = [100 * bound for bound in difference.anytime_interval]
        if np.isfinite(anytime).all():
            right.plot([place + 0.1] * 2, anytime, color="C0", linewidth=0.8)
        points = [100 * d for d in difference.differences]
        right.plot([place] * len(points), points, ".", color="0.6")
        right.plot([place + 0.1] * 2, [low, high], color="C0", linewidth=2)
        right.plot(place + 0.1, 100 * difference.mean, "o", color="C0")
    right.axhline(0, color="0.3", linewidth=0.8)
    right.set_title(as_written(f"points gained over {arms[0]}, 95 %"), fontsize=10)
    for axis in (left, right):
        _name_places(axis, [arm.name for arm in arms])
        axis.grid(alpha=0.3)
    right.set_xlim(0.5, len(arms) - 0.5)
    save_figure(figure, path)


def draw_closeness(sets: Mapping[str, Sequence[Closeness]], path: Path) -> None:
    """Draws the pooled discrepancies as ratios to those of random images.

    There is one panel per space and one bar per set, which starts at the line at 1. The whiskers
    on that line are one standard deviation of random images.
    """
    first = next(iter(sets.values()))
    spaces, measures = (
        list(dict.fromkeys(names))
        for names in zip(*((row.space, row.measure) for row in first), strict=True)
    )
    width = 0.8 / len(sets)
    size = len(spaces) * max(3.5, 0.5 * len(measures) * len(sets) ** 0.5) + 0.5, 3.8
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, len(spaces), squeeze=False, sharey=True)[0]
    for axis, space in zip(panels, spaces, strict=True):
        for k, (name, rows) in enumerate(sets.items()):
            drawn = [row for row in rows if row.space == space and row.is_pooled]
            places = np.arange(len(measures)) + (k - (len(sets) - 1) / 2) * width
            # Bars start at 1, since a logarithmic axis has no 0.
            heights = [row.ratio - 1 for row in drawn]
            axis.bar(places, heights, width, bottom=1, label=as_written(name))
            noise = [row.noise for row in drawn]
            axis.errorbar(places, np.ones(len(drawn)), noise, fmt="none", ecolor="0.3", capsize=2)
        axis.axhline(1, color="0.3", linewidth=0.8)
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
        axis.set_xticks(range(len(measures)), measures, rotation=30, ha="right")
        axis.set_title(space, fontsize=10)
        axis.grid(axis="y", alpha=0.3)
        axis.set_axisbelow(True)
    panels[0].set_ylabel("discrepancy / that of random images")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    save_figure(figure, path)


def _name_places(axis: Axes, names: Sequence[str]) -> None:
    """Writes names below the places 0, 1, 2 ..., slanted if they are long."""
    rotation, side = (20, "right") if max(map(len, names)) > _LONG_NAME else (0, "center")
    written = [as_written(name) for name in names]
    axis.set_xticks(range(len(names)), written, fontsize=8, rotation=rotation, ha=side)


def draw_search(rows: Sequence[Mapping[str, Any]], baseline: float | None, path: Path) -> None:
    """Draws the accuracy of every trial over lam or share; the dots of stopped ones are hollow."""
    searched = lam_or_share(rows[0])
    figure = Figure(figsize=(5.5, 3.4), layout="constrained")
    axis = figure.subplots()
    for state, face in (("complete", "C0"), ("pruned", "none")):
        chosen = [row for row in rows if row["state"] == state]
        places, values = [r[searched] for r in chosen], [100 * r["accuracy"] for r in chosen]
        axis.scatter(places, values, facecolors=face, edgecolors="C0", label=state)
    if baseline is not None:
        axis.axhline(100 * baseline, color="0.3", linewidth=1, label="lam 0")
    axis.set_xscale("log")
    axis.set_xlabel(f"{searched} (at the start, for ramps)")
    axis.set_ylabel("accuracy on held-out images %")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    save_figure(figure, path)

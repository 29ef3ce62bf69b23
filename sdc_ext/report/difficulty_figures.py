"""Figures of difficulty: of samples over each other's measures, and of runs over iterations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from sdc_ext._figures import as_written, save_figure
from sdc_ext.evaluation.difficulty import MEASURES, Difficulty
from sdc_ext.evaluation.tracking import running_mean

# What a picture of all samples compares: the measure that is drawn, and the one it is drawn over.
PAIRS = (("gradn", "misclassified"), ("loss", "misclassified"), ("loss", "gradn"))

# The largest number of classes with a panel of their own, and of panels beside each other.
MOST_PANELS, _MOST_COLUMNS = 20, 5

# Without this jitter, many dots at equal shares of wrong networks would coincide.
_JITTER = 0.012


def draw_difficulty(found: Mapping[str, Difficulty], path: Path) -> None:
    """Draws three pairs of measures against each other, with one dot per sample.

    They are GraDN and the loss over the share of networks that are wrong, and the loss over GraDN.

    Args:
        found: The difficulty by the name of the samples.
        path: The picture to write.

    Reference: SDC paper, Figure 3.
    """
    figure = Figure(figsize=(13, 3.8), layout="constrained")
    for axis, (of, over) in zip(figure.subplots(1, len(PAIRS)), PAIRS, strict=True):
        _scatter(axis, found, of, over)
        axis.set_xlabel(MEASURES[over])
        axis.set_title(MEASURES[of], fontsize=10)
        axis.legend(fontsize=7, loc="lower right")
    save_figure(figure, path)


def draw_difficulty_by_class(
    found: Mapping[str, Difficulty],
    labels: Mapping[str, Tensor],
    classes: Sequence[str],
    path: Path,
    *,
    of: str,
    over: str,
) -> None:
    """Draws two measures against each other in one panel per class, with one dot per sample.

    Of more than 20 classes, 20 are drawn that lie evenly among them.

    Args:
        found: The difficulty by the name of the samples. The rank correlation in the title of a
            panel is that of the first ones.
        labels: Their classes (N,) int64, by the same names.
        classes: The names of the classes.
        path: The picture to write.
        of: The name of the measure to draw.
        over: The name of the measure on the horizontal axes.

    Reference: SDC paper, Figures 7 to 12.
    """
    shown = np.unique(np.linspace(0, len(classes) - 1, min(len(classes), MOST_PANELS)).round())
    columns = min(len(shown), _MOST_COLUMNS)
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(2.5 * columns + 0.5, 2.3 * rows + 0.7), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for panel, label in zip(panels, map(int, shown), strict=False):
        of_class = {
            name: difficulty.at(labels[name] == label)
            for name, difficulty in found.items()
            if bool((labels[name] == label).any())
        }
        _scatter(panel, of_class, of, over)
        first = next(iter(of_class.values()), None)
        rho = np.nan if first is None else first.rank_correlation(of, over)
        named = classes[label] if np.isnan(rho) else f"{classes[label]}, rho {rho:+.2f}"
        panel.set_title(as_written(named), fontsize=9)
    for panel in panels[len(shown) :]:
        panel.set_axis_off()
    figure.supxlabel(MEASURES[over], fontsize=10)
    figure.supylabel(MEASURES[of], fontsize=10)
    if len(found) > 1:
        marks = [panels[0].scatter([], [], s=14, color=f"C{k}") for k in range(len(found))]
        figure.legend(marks, map(as_written, found), loc="outside upper center", ncols=3)
    save_figure(figure, path)


def _scatter(axis: Axes, found: Mapping[str, Difficulty], of: str, over: str) -> None:
    for k, (name, difficulty) in enumerate(found.items()):
        x, y = (getattr(difficulty, measure).numpy() for measure in (over, of))
        if over == "misclassified":
            x = x + np.random.default_rng(k).uniform(-_JITTER, _JITTER, len(x))
        rho = difficulty.rank_correlation(of, over)
        label = as_written(name)
        label = label if np.isnan(rho) else f"{label} (rank correlation {rho:.2f})"
        size = 6 if len(x) > 100 else 14  # keeps small sets visible among the real images
        axis.scatter(x, y, s=size, alpha=0.5, color=f"C{k}", label=label)
    for measure, scale in ((of, axis.set_yscale), (over, axis.set_xscale)):
        if measure in ("gradn", "loss"):
            scale("log")
    axis.grid(alpha=0.3)


def draw_tracking(
    tracked: Mapping[str, Sequence[Mapping[str, Sequence[float]]]],
    warm_ups: Mapping[str, int],
    path: Path,
) -> None:
    """Draws the difficulty over iterations by arm: every seed faintly, and the mean over seeds.

    Args:
        tracked: The histories by the name of the arm, one per seed, over the same iterations.
        warm_ups: The numbers of iterations at the start that are left out, by the name of the arm.
        path: The picture to write.

    Reference: SDC paper, Figure 1.
    """
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axis = figure.subplots()
    for k, (arm, histories) in enumerate(tracked.items()):
        skip = warm_ups.get(arm, 0)
        smooth = [running_mean(history["difficulty"][skip:]) for history in histories]
        averaged, _ = smooth[0]
        iterations = histories[0]["iteration"][skip + averaged :]
        means = [mean for _, mean in smooth]
        for mean in means:
            axis.plot(iterations, mean, f"C{k}", linewidth=0.6, alpha=0.4)
        axis.plot(iterations, np.mean(means, axis=0), f"C{k}", label=as_written(arm))
    axis.set_xlabel("iteration")
    axis.set_ylabel("GraDN of the synthetic batch")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    save_figure(figure, path)

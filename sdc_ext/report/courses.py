"""The courses of several methods in one chart: GraDN and accuracy over the run (Figure 1).

Methods differ in the size of their gradients and in the number of iterations. Their GraDN is
therefore drawn relative to its mean in the first tenth of the run, over the part of the run done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sdc_ext._figures import as_written, save_figure
from sdc_ext._words import number_of
from sdc_ext.errors import InputError
from sdc_ext.evaluation.tracking import Drift, running_mean
from sdc_ext.report.runs import RunArm, by_arm

if TYPE_CHECKING:
    from sdc_ext.report.runs import Run

# Horizontal and vertical positions.
Curve: TypeAlias = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]

X_LABEL = "part of the run, %"
GRADN, ACCURACY = "GraDN, over that of the run's first tenth", "test accuracy %"

# The first arm of a method has solid lines, its second one dashed lines, and so on.
_DASHES: tuple[Literal["-", "--", ":", "-."], ...] = ("-", "--", ":", "-.")


@dataclass(frozen=True)
class Course:
    """The runs of one arm of a method.

    Attributes:
        method: The name of the method.
        arm: The correction, and what else tells the runs from others of the method.
        dash: The place of the arm among those of the method.
        difficulty: For each run, GraDN relative to its first tenth, as running means.
        accuracy: For each run, the test accuracy in percent.
    """

    method: str
    arm: RunArm
    dash: int
    difficulty: Sequence[Curve]
    accuracy: Sequence[Curve]


def courses(runs: Sequence[Run]) -> list[Course]:
    """Returns the courses of all runs that have a history, by method and arm."""
    logged = [run for run in runs if run.history]
    found = []
    for method in dict.fromkeys(run.info.method for run in logged):
        arms = by_arm([run for run in logged if run.info.method == method])
        for dash, (arm, chosen) in enumerate(arms.items()):
            curves = [_difficulty(run) for run in chosen], [_accuracy(run) for run in chosen]
            found.append(Course(method, arm, dash, *curves))
    return found


def mean_of(curves: Sequence[Curve]) -> Curve | None:
    """Returns the mean of curves over the same positions; None if the positions differ."""
    first = curves[0][0]
    if any(not np.array_equal(x, first) for x, _ in curves):
        return None
    return first, np.mean([y for _, y in curves], axis=0)


def draw_courses(runs: Sequence[Run], path: Path) -> None:
    """Draws GraDN and accuracy over the run: one colour per method, one dash per arm.

    Thick lines are means over runs of equal length, and thin ones are single runs.

    Args:
        runs: The runs, of any methods; those without a history are left out.
        path: The picture to write.

    Raises:
        InputError: If no run has a history.

    Reference: SDC paper, Figure 1.
    """
    found = courses(runs)
    if not found:
        raise InputError("no set has a history.csv of its run: pass folders of distill or compare")
    figure = Figure(figsize=(9.5, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    methods = list(dict.fromkeys(course.method for course in found))
    marks = []
    for course in found:
        color = f"C{methods.index(course.method)}"
        dashes = _DASHES[course.dash % len(_DASHES)]
        _draw(left, course.difficulty, color, dashes)
        _draw(right, course.accuracy, color, dashes, "o")
        count = number_of(len(course.difficulty), "run")
        label = as_written(f"{course.method}, {course.arm} ({count})")
        marks.append(Line2D([], [], color=color, linestyle=dashes, label=label))
    left.axhline(1, color="0.3", linewidth=0.8)
    for axis, title in ((left, GRADN), (right, ACCURACY)):
        axis.set_title(title, fontsize=10)
        axis.set_xlabel(X_LABEL)
        axis.grid(alpha=0.3)
    figure.legend(handles=marks, loc="outside lower center", ncols=3, fontsize=8)
    save_figure(figure, path)


def _draw(axis: Axes, curves: Sequence[Curve], color: str, dashes: str, marker: str = "") -> None:
    mean = mean_of(curves)
    if len(curves) > 1:
        for x, y in curves:
            axis.plot(x, y, dashes, color=color, linewidth=0.6, alpha=0.35)
    if mean is not None:
        axis.plot(*mean, color=color, linestyle=dashes, marker=marker, markersize=3)


def _difficulty(run: Run) -> Curve:
    values = run.history["difficulty"][run.skip :]
    skipped, mean = running_mean(values)
    done = run.skip + np.arange(skipped, len(values)) + 1
    return 100 * done / len(run.history["difficulty"]), mean / Drift.of(values).first


def _accuracy(run: Run) -> Curve:
    iterations = np.array([row["iteration"] for row in run.evaluations])
    means = np.array([row["mean"] for row in run.evaluations])
    return 100 * iterations / len(run.history["difficulty"]), 100 * means

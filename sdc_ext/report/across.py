"""The table and the picture of gains in several settings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

from sdc_ext._console import PlainTable
from sdc_ext._figures import as_written, save_figure
from sdc_ext._words import number_of
from sdc_ext.evaluation.paired import points

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sdc_ext.evaluation.across import ArmAcross

_ALL = "all settings"


def across_table(arms: Sequence[ArmAcross]) -> Table:
    """Returns a table with one row per arm and setting, and one per arm for all settings.

    Args:
        arms: The arms, at least one, each with at least one setting.
    """
    margin = next(iter(arms[0].gains.values())).margin
    title = f"points gained over {arms[0].base} in each setting, and over all settings"
    columns = ("arm", "setting", "n", "gain", "95 %", "p, Holm", f"p, ±{100 * margin:g}")
    table = PlainTable(title, *columns)
    for one in arms:
        for setting, gain in one.gains.items():
            d = gain.difference
            tests = f"{gain.p:.3f}", f"{gain.equivalence_p:.3f}"
            measured = f"{100 * d.mean:+.2f}", points(d.t_interval)
            table.add_row(one.arm.name, setting, str(d.n), *measured, *tests)
        if one.summary is not None:
            s = one.summary
            measured = f"{100 * s.mean:+.2f}", points(s.interval)
            table.add_row(one.arm.name, _ALL, str(s.n), *measured, f"{one.p:.3f}", "")
        table.add_section()
    return table


def across_sentence(one: ArmAcross) -> str:
    """Returns what the summary of an arm says beside its row: how much settings differ."""
    left_out = {"all differences are equal": one.left_out, "the arm diverged": one.diverged}
    ending = "".join(
        f" Left out, since {why}: {', '.join(names)}." for why, names in left_out.items() if names
    )
    s = one.summary
    if s is None:
        return f"{one.arm}: fewer than two settings to summarise.{ending}"
    further = "" if s.prediction is None else f"; in a further setting it is {points(s.prediction)}"
    return (
        f"{one.arm}: the gain differs between {number_of(s.n, 'setting')} by a standard deviation "
        f"of {100 * s.tau:.2f} points (I² {100 * s.i_squared:.0f} %){further}.{ending}"
    )


def draw_forest(arms: Sequence[ArmAcross], path: Path) -> None:
    """Draws the gains of each arm in all settings with their 95 % intervals: a forest plot.

    There is one panel per arm. A diamond is the random-effects mean of its settings with its 95 %
    interval; the line below it is the interval for a further setting.

    Args:
        arms: The arms, at least one.
        path: The picture to write.
    """
    settings = list(dict.fromkeys(name for one in arms for name in one.gains))
    size = 2.2 + 2.8 * len(arms), 1.4 + 0.3 * len(settings)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, len(arms), squeeze=False, sharey=True)[0]
    for axis, one in zip(panels, arms, strict=True):
        for place, setting in enumerate(settings):
            if setting in one.gains:
                d = one.gains[setting].difference
                axis.plot(100 * np.asarray(d.t_interval), [place] * 2, color="C0", linewidth=1.5)
                axis.plot(100 * d.mean, place, "s", color="C0", markersize=4)
        _draw_summary(axis, one, len(settings))
        axis.axvline(0, color="0.3", linewidth=0.8)
        axis.set_title(as_written(one.arm.name), fontsize=9)
        axis.set_xlabel("points gained")
        axis.grid(axis="x", alpha=0.3)
    panels[0].set_yticks(range(len(settings) + 1), map(as_written, [*settings, _ALL]), fontsize=8)
    panels[0].set_ylim(len(settings) + 0.6, -0.6)
    figure.suptitle(as_written(f"over {arms[0].base}, 95 % intervals"), fontsize=9)
    save_figure(figure, path)


def _draw_summary(axis: Axes, one: ArmAcross, place: int) -> None:
    s = one.summary
    if s is None:
        return
    low, high = (100 * bound for bound in s.interval)
    axis.fill(
        [low, 100 * s.mean, high, 100 * s.mean], place + np.asarray([0, 0.22, 0, -0.22]), "C1"
    )
    if s.prediction is not None:
        axis.plot(100 * np.asarray(s.prediction), [place + 0.35] * 2, color="C1", linewidth=1)

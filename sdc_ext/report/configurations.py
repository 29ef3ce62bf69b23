"""A table and a picture of how the accuracies of sets spread over configurations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from rich.table import Table

from sdc_ext._console import PlainTable
from sdc_ext._figures import as_written, save_figure
from sdc_ext.evaluation.spread import Spread

# Colours and markers that remain distinct; further configurations repeat them.
MARKERS = "osD^v<>P*X"


def spread_table(found: Sequence[Spread]) -> Table:
    """Returns a table of the worst, the mean and the best configuration of each set in percent."""
    columns = ("set", "n", "worst %", "worst at", "mean %", "best %", "std of configurations")
    table = PlainTable("test accuracy % over configurations", *columns)
    for one in found:
        low, high = one.evaluations[one.worst], one.evaluations[one.best]
        table.add_row(
            one.name,
            str(len(one.evaluations)),
            f"{100 * low.mean:.2f}",
            one.worst,
            f"{100 * one.mean:.2f}",
            f"{100 * high.mean:.2f}",
            f"{100 * one.std:.2f}",
        )
    return table


def draw_spread(found: Sequence[Spread], path: Path) -> None:
    """Draws the mean accuracy of every configuration, one line per set, with worst and mean.

    Args:
        found: The spreads, at least one.
        path: The picture to write.
    """
    configurations = list(dict.fromkeys(name for one in found for name in one.evaluations))
    figure = Figure(figsize=(7.5, 1.8 + 0.55 * len(found)), layout="constrained")
    axis = figure.subplots()
    for place, one in enumerate(found):
        low, high = one.evaluations[one.worst].mean, one.evaluations[one.best].mean
        axis.plot([100 * low, 100 * high], [place] * 2, color="0.75", linewidth=1, zorder=0)
        axis.plot(100 * one.mean, place, "|", color="black", markersize=11, markeredgewidth=1.5)
        axis.annotate(
            as_written(f"worst: {one.worst}"),
            (100 * low, place),
            xytext=(0, 9),
            textcoords="offset points",
            fontsize=7,
        )
    for k, name in enumerate(configurations):
        have = [(place, one) for place, one in enumerate(found) if name in one.evaluations]
        axis.plot(
            [100 * one.evaluations[name].mean for _, one in have],
            [place for place, _ in have],
            MARKERS[k % len(MARKERS)],
            color=f"C{k % 10}",
            markersize=5,
            label=as_written(name),
        )
    axis.set_yticks(range(len(found)), [as_written(one.name) for one in found])
    axis.set_ylim(len(found) - 0.4, -0.6)
    axis.set_xlabel("test accuracy %; |: mean over configurations")
    axis.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, fontsize=7)
    save_figure(figure, path)

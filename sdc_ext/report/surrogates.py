"""The tables and the chart of the surrogates beside the error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

from sdc_ext._console import PlainTable
from sdc_ext._figures import as_written, save_figure
from sdc_ext.evaluation.ranking import RankCorrelation
from sdc_ext.evaluation.results import Results
from sdc_ext.report.configurations import MARKERS

_COLUMNS = 4


def surrogate_table(results: Results, surrogates: Mapping[str, Mapping[str, float]]) -> Table:
    """Returns a table with one row per set: its size, its accuracy and its discrepancies."""
    names = list(next(iter(surrogates.values())))
    table = PlainTable("discrepancies to the real images", "set", "ipc", "accuracy", *names)
    for result in results:
        values = (f"{surrogates[result.name][name]:.3g}" for name in names)
        ipc = str(result.synthetic.info.ipc)
        table.add_row(result.name, ipc, str(result.evaluation), *values)
    return table


def ranking_table(correlations: Sequence[RankCorrelation]) -> Table:
    """Returns a table of the rank correlations with the error, with 95 % intervals."""
    table = PlainTable(
        "rank correlation with the error: 1 ranks sets as the accuracy does",
        *("sets", "n", "surrogate", "Spearman", "Kendall"),
    )
    for group in dict.fromkeys(row.group for row in correlations):
        for row in (row for row in correlations if row.group == group):
            spearman = _with_interval(row.spearman, row.spearman_interval)
            kendall = _with_interval(row.kendall, row.kendall_interval)
            table.add_row(group, str(row.sets), row.measure, spearman, kendall)
        table.add_section()
    return table


def draw_surrogates(
    results: Results, surrogates: Mapping[str, Mapping[str, float]], path: Path
) -> None:
    """Draws the error over each surrogate, one panel each and one dot per set."""
    names = list(next(iter(surrogates.values())))
    rows = -(-len(names) // _COLUMNS)
    figure = Figure(figsize=(3.2 * _COLUMNS, 3.1 * rows), layout="constrained")
    panels = figure.subplots(rows, _COLUMNS, squeeze=False, sharey=True).ravel()
    methods = list(dict.fromkeys(result.synthetic.info.method for result in results))
    sizes = sorted({result.synthetic.info.ipc for result in results})
    for panel, name in zip(panels, names, strict=False):
        for result in results:
            info = result.synthetic.info
            panel.plot(
                surrogates[result.name][name],
                100 * (1 - result.evaluation.mean),
                marker=MARKERS[sizes.index(info.ipc) % len(MARKERS)],
                color=f"C{methods.index(info.method) % 10}",
                linestyle="none",
                markersize=5,
                label=as_written(f"{info.method}, ipc {info.ipc}"),
            )
        if min(values[name] for values in surrogates.values()) > 0:
            panel.set_xscale("log")
        panel.set_title(name, fontsize=9)
        panel.grid(alpha=0.3)
    for panel in panels[len(names) :]:
        panel.set_axis_off()
    for panel in panels[::_COLUMNS]:
        panel.set_ylabel("error in percent")
    shown = dict(zip(*reversed(panels[0].get_legend_handles_labels()), strict=True))
    order = np.argsort(list(shown))
    figure.legend(
        [list(shown.values())[k] for k in order],
        [list(shown)[k] for k in order],
        loc="outside upper center",
        ncols=6,
        fontsize=8,
    )
    save_figure(figure, path)


def _with_interval(value: float, interval: tuple[float, float]) -> str:
    low, high = interval
    return f"{value:+.2f} ({low:+.2f} to {high:+.2f})"

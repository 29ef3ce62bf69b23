"""Line charts as SVG that a page can hold, in colours that follow the page's light or dark."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from sdc_ext.evaluation.tracking import running_mean

# Drawn in this colour is what takes the page's text colour; nothing else has it.
_TEXT = "#010203"

_TEXT_IN_SVG = re.compile(re.escape(_TEXT), re.IGNORECASE)


# Readable on white and on black.
COLORS = ("#3b82f6", "#f97316", "#10b981", "#e11d8f", "#a78bfa", "#ca8a04")


_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text, in the page's font
    "svg.hashsalt": "sdc_ext",  # the same chart is the same file
    "font.size": 10,
    **dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), _TEXT
    ),
    "axes.spines.top": False,
    "axes.spines.right": False,
}


@dataclass(frozen=True)
class Line:
    """One run's curve.

    Attributes:
        x: where.
        y: values; NaN leaves a gap.
        color: position in ``COLORS``, the same for runs of one kind.
        spread: half the height of a band around it, if it has one.
    """

    x: Sequence[float]
    y: Sequence[float]
    color: int
    spread: Sequence[float] | None = None


def line_chart(title: str, lines: Sequence[Line], x_label: str, *, smooth: bool = False) -> str:
    """An ``<svg>`` element.

    Args:
        title: above the chart.
        lines: what to draw.
        x_label: below it.
        smooth: draws the running mean over a twentieth of the curve, and the curve itself faintly.
    """
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(4.6, 3.0), layout="constrained")
        axis = figure.subplots()
        for line in lines:
            _draw(axis, line, smooth)
        axis.set_title(title, fontsize=11, loc="left")
        axis.set_xlabel(x_label)
        axis.grid(alpha=0.2, color=_TEXT)
        FigureCanvasSVG(figure)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    return _TEXT_IN_SVG.sub("currentColor", text[text.index("<svg") :])


def _draw(axis: matplotlib.axes.Axes, line: Line, smooth: bool) -> None:
    color = COLORS[line.color % len(COLORS)]
    dashes = ("-", (0, (5, 1.5)), (0, (1.5, 1)))[line.color % 3]  # seen where they coincide
    x, y = np.asarray(line.x, float), np.asarray(line.y, float)
    if not smooth:
        marker = "o" if len(x) < 25 else ""
        axis.plot(x, y, color=color, linestyle=dashes, linewidth=1.5, marker=marker, markersize=3)
    else:
        axis.plot(x, y, color=color, linewidth=0.7, alpha=0.3)
        skipped, mean = running_mean(line.y)
        axis.plot(x[skipped:], mean, color=color, linestyle=dashes, linewidth=1.7)
    if line.spread is not None:
        spread = np.asarray(line.spread, float)
        axis.fill_between(x, y - spread, y + spread, color=color, alpha=0.15, linewidth=0)

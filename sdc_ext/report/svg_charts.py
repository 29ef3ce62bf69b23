"""Line charts as inline SVG, whose text and axes take the text colour of the page.

The same chart is therefore readable in the page's light and dark modes.
"""

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

# Text and axes are drawn in this placeholder, which ``line_chart`` replaces by ``currentColor``,
# the text colour of the page. No other element may have this colour.
_TEXT = "#010203"

_TEXT_IN_SVG = re.compile(re.escape(_TEXT), re.IGNORECASE)


# Readable on white and on black.
COLORS = ("#3b82f6", "#f97316", "#10b981", "#e11d8f", "#a78bfa", "#ca8a04")


_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # keeps text as text, in the font of the page
    "svg.hashsalt": "sdc_ext",  # makes the same chart the same file
    "font.size": 10,
    **dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), _TEXT
    ),
    "axes.spines.top": False,
    "axes.spines.right": False,
}


@dataclass(frozen=True)
class Line:
    """The curve of one run.

    Attributes:
        x: The horizontal positions.
        y: The values, as many as ``x``; NaN leaves a gap.
        color: The index into ``COLORS``, the same for runs with the same correction.
        spread: Half the height of the band around the curve at each position, if it has one.
    """

    x: Sequence[float]
    y: Sequence[float]
    color: int
    spread: Sequence[float] | None = None


def line_chart(title: str, lines: Sequence[Line], x_label: str, *, smooth: bool = False) -> str:
    """Returns a line chart as an ``<svg>`` element.

    Args:
        title: The title above the chart.
        lines: The curves to draw.
        x_label: The label of the horizontal axis.
        smooth: Draw running means over a twentieth of each curve, and the curves faintly.
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
    # Different dashes keep curves apart where they coincide.
    dashes = ("-", (0, (5, 1.5)), (0, (1.5, 1)))[line.color % 3]
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

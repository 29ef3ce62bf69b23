"""Writes figures without a display, and texts into them as they are."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import IO

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sdc_ext._text import visible


def as_written(text: str) -> str:
    """Returns what matplotlib, which takes text between dollars for formulas, draws as ``text``."""
    return visible(text).replace("$", r"\$")


def save_figure(figure: Figure, to: str | Path | IO[bytes]) -> None:
    """Writes a figure without a display; an open file receives a PNG."""
    FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # class names in scripts that the font lacks
        figure.savefig(to, dpi=150)

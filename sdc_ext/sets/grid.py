"""The picture of a distilled set, drawn without a display."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Protocol

import numpy as np
from einops import rearrange
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from sdc_ext.sets.info import SetInfo

_MOST_ROWS = 20

_MOST_COLUMNS = 10

_LEAST_WIDTH = 4.5  # inches, for the title


class Pictured(Protocol):
    """What can be drawn: a distilled set, of which this module need not know more."""

    @property
    def info(self) -> SetInfo: ...
    @property
    def hard_labels(self) -> Tensor: ...

    def pixels(self) -> Tensor: ...


def draw_grid(synthetic: Pictured, path: Path) -> None:
    """Draws the distilled images, a row a class, up to 20 classes and 10 images of each."""
    info = synthetic.info
    classes = info.classes[:_MOST_ROWS]
    pixels = _drawable(synthetic)
    columns = min(info.ipc, _MOST_COLUMNS)
    tall = columns < 3 <= len(classes)
    shape = (columns, len(classes)) if tall else (len(classes), columns)
    size = max(0.8 * shape[1] + 1.2, _LEAST_WIDTH), 0.8 * shape[0] + 0.8
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(*shape, squeeze=False)
    for row, name in enumerate(classes):
        images = pixels[synthetic.hard_labels.numpy() == row][:columns]
        for column in range(columns):
            axis = axes[column, row] if tall else axes[row, column]
            axis.set_xticks([])
            axis.set_yticks([])
            if column < len(images):
                axis.imshow(images[column], cmap="gray", vmin=0, vmax=1)
        if tall:
            axes[0, row].set_title(name, fontsize=8)
        else:
            axes[row, 0].set_ylabel(name, fontsize=8, rotation=0, ha="right", va="center")
    figure.suptitle(_title(synthetic), fontsize=9)
    save_figure(figure, path)


def _drawable(synthetic: Pictured) -> np.ndarray:
    return rearrange(synthetic.pixels().numpy(), "n c h w -> n h w c")


def _title(synthetic: Pictured) -> str:
    info = synthetic.info
    return f"{info.method} on {info.dataset}, ipc {info.ipc}, {info.correction}"


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a figure without a display."""
    FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # class names in scripts that the font lacks
        figure.savefig(path, dpi=150)

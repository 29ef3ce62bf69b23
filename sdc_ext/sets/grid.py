"""Draws images by class, without a display."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
from einops import rearrange
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from sdc_ext._text import visible

MOST_COLUMNS = 10

_MOST_ROWS = 20

_LEAST_WIDTH = 4.5  # inches, for the title


def draw_grid(
    pixels: Tensor,
    labels: Tensor,
    classes: Sequence[str],
    ipc: int,
    title: str,
    to: str | Path | IO[bytes],
) -> None:
    """Draws images by class, at most 20 classes and 10 images of each.

    Each class is a row, or a column where there are fewer than 3 images of at least 3 classes.

    Args:
        pixels: Images (N, C, H, W) in [0, 1].
        labels: The class of each image (N,).
        classes: A name for each label.
        ipc: The number of images per class.
        title: The title above the images.
        to: The file to write.
    """
    shown = classes[:_MOST_ROWS]
    columns = min(ipc, MOST_COLUMNS)
    tall = columns < 3 <= len(shown)
    shape = (columns, len(shown)) if tall else (len(shown), columns)
    size = max(0.8 * shape[1] + 1.2, _LEAST_WIDTH), 0.8 * shape[0] + 0.8
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(*shape, squeeze=False)
    pictures = as_pictures(pixels)
    for row, name in enumerate(shown):
        images = pictures[labels.numpy() == row][:columns]
        for column in range(columns):
            axis = axes[column, row] if tall else axes[row, column]
            axis.set_xticks([])
            axis.set_yticks([])
            if column < len(images):
                axis.imshow(images[column], cmap="gray", vmin=0, vmax=1)
        if tall:
            axes[0, row].set_title(as_written(name), fontsize=8)
        else:
            axes[row, 0].set_ylabel(
                as_written(name), fontsize=8, rotation=0, ha="right", va="center"
            )
    figure.suptitle(as_written(title), fontsize=9)
    save_figure(figure, to)


def as_pictures(pixels: Tensor) -> np.ndarray:
    """Converts images (N, C, H, W) to arrays (N, H, W, C), as matplotlib takes them."""
    return rearrange(pixels.numpy(), "n c h w -> n h w c")


def as_written(text: str) -> str:
    """Returns what matplotlib, which takes text between dollars for formulas, draws as ``text``."""
    return visible(text).replace("$", r"\$")


def save_figure(figure: Figure, to: str | Path | IO[bytes]) -> None:
    """Writes a figure without a display; an open file receives a PNG."""
    FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # class names in scripts that the font lacks
        figure.savefig(to, dpi=150)

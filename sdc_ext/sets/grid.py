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

# Longer names above columns would run into each other.
_LONG_NAME = 10

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
    axis = figure.subplots()
    pictures = as_pictures(pixels)
    by_class = [pictures[labels.numpy() == row][:columns] for row in range(len(shown))]
    mosaic, step = _mosaic(by_class, columns, tall)
    axis.imshow(mosaic, cmap="gray", vmin=0, vmax=1)
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0, labelsize=8, top=tall, labeltop=tall, labelbottom=False)
    names = [as_written(name) for name in shown]
    centres = [step * (row + 0.5) for row in range(len(shown))]
    axis.set_xticks(*(centres, names) if tall else ([],))
    axis.set_yticks(*([],) if tall else (centres, names))
    if max(map(len, names)) > _LONG_NAME:
        axis.tick_params("x", labelrotation=30)
    figure.suptitle(as_written(title), fontsize=9)
    save_figure(figure, to)


def _mosaic(by_class: Sequence[np.ndarray], columns: int, tall: bool) -> tuple[np.ndarray, int]:
    """Joins images into a single one, since axes of their own would take seconds to draw.

    Args:
        by_class: The images (n, H, W, C) of each class, n at most ``columns``.
        columns: The number of places per class.
        tall: Whether a class is a column.

    Returns:
        The image, with white between its parts, and the distance of the classes in pixels.
    """
    _, height, width, channels = by_class[0].shape
    gap = max(1, max(height, width) // 12)
    cells = np.ones((len(by_class), columns, height + gap, width + gap, channels))
    for row, images in enumerate(by_class):
        cells[row, : len(images), :height, :width] = images
    joined = "c r h w k -> (r h) (c w) k" if tall else "r c h w k -> (r h) (c w) k"
    return rearrange(cells, joined)[:-gap, :-gap], (width if tall else height) + gap


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

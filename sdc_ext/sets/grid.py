"""Draws images by class, without a display."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from einops import rearrange
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from sdc_ext._figures import as_written, save_figure

MOST_COLUMNS = 10

# Up to so many classes stand below each other at full size; more are drawn smaller, in blocks side
# by side. Beyond the most, a picture would be too large to look at.
_AT_FULL_SIZE, _IN_A_BLOCK, _MOST_CLASSES = 20, 25, 200

# The inches of an image, and those that a block needs for its names.
_FULL_SIZE, _SMALL, _NAMES = 0.8, 0.42, 1.1

# Longer names above columns would run into each other, and beside small images take their room.
_LONG_NAME, _LONGEST_BESIDE = 10, 14

_LEAST_WIDTH = 4.5  # inches, for the title


@dataclass(frozen=True)
class _Layout:
    """How the images of all classes are laid out.

    Attributes:
        classes: The number of classes that are drawn.
        images: The number of images of each of them.
        tall: Whether a class is a column, rather than a row.
        blocks: The number of blocks beside each other, among which the classes are divided.
        side: The size of an image in inches.
    """

    classes: int
    images: int
    tall: bool
    blocks: int
    side: float

    @classmethod
    def of(cls, classes: int, ipc: int) -> _Layout:
        """Returns the layout for so many classes and images of each."""
        images = min(ipc, MOST_COLUMNS)
        if classes <= _AT_FULL_SIZE:
            return cls(classes, images, images < 3 <= classes, 1, _FULL_SIZE)
        classes = min(classes, _MOST_CLASSES)
        blocks = -(-classes // _IN_A_BLOCK)
        # Fewer images of each class leave the picture no wider than a page.
        return cls(classes, max(1, min(images, MOST_COLUMNS * 2 // blocks)), False, blocks, _SMALL)

    @property
    def in_a_block(self) -> int:
        """The number of classes of each block but the last."""
        return -(-self.classes // self.blocks)

    @property
    def size(self) -> tuple[float, float]:
        """The size of the picture in inches."""
        if self.tall:
            width, height = self.in_a_block, self.images
        else:
            width, height = self.blocks * self.images, self.in_a_block
        names = 1.2 if self.blocks == 1 else self.blocks * _NAMES
        return max(self.side * width + names, _LEAST_WIDTH), self.side * height + 0.8


def draw_grid(
    pixels: Tensor,
    labels: Tensor,
    classes: Sequence[str],
    ipc: int,
    title: str,
    to: str | Path | IO[bytes],
) -> None:
    """Draws images by class: at most 10 of each, fewer of many classes, and at most 200 classes.

    Each class is a row, or a column where there are fewer than 3 images of 3 to 20 classes. More
    than 20 classes are drawn smaller, in blocks of up to 25 beside each other.

    Args:
        pixels: Images (N, C, H, W) in [0, 1].
        labels: The class of each image (N,).
        classes: A name for each label.
        ipc: The number of images per class.
        title: The title above the images.
        to: The file to write.
    """
    layout = _Layout.of(len(classes), ipc)
    figure = Figure(figsize=layout.size, layout="constrained")
    pictures, hard = as_pictures(pixels), labels.numpy()
    blocks = figure.subplots(1, layout.blocks, squeeze=False)[0]
    for k, axis in enumerate(blocks):
        shown = range(layout.classes)[k * layout.in_a_block : (k + 1) * layout.in_a_block]
        by_class = [pictures[hard == label][: layout.images] for label in shown]
        _draw_block(axis, by_class, [classes[label] for label in shown], layout)
    left_out = len(classes) - layout.classes
    more = f" (the first {layout.classes} of {len(classes)} classes)" if left_out else ""
    figure.suptitle(as_written(title + more), fontsize=9)
    save_figure(figure, to)


def _draw_block(
    axis: Axes, by_class: Sequence[np.ndarray], classes: Sequence[str], layout: _Layout
) -> None:
    tall = layout.tall
    mosaic, step = _mosaic(by_class, layout.images, tall)
    axis.imshow(mosaic, cmap="gray", vmin=0, vmax=1)
    axis.spines[:].set_visible(False)
    size = 8 if layout.blocks == 1 else 6
    axis.tick_params(length=0, labelsize=size, top=tall, labeltop=tall, labelbottom=False)
    names = [as_written(name) for name in classes]
    if layout.blocks > 1:
        longest = _LONGEST_BESIDE
        names = [n if len(n) <= longest else f"{n[: longest - 1]}…" for n in names]
        axis.set_anchor("N")  # a shorter last block begins where the others do
    centres = [step * (row + 0.5) for row in range(len(names))]
    axis.set_xticks(*(centres, names) if tall else ([],))
    axis.set_yticks(*([],) if tall else (centres, names))
    if max(map(len, names)) > _LONG_NAME:
        axis.tick_params("x", labelrotation=30)


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

"""Pictures of many classes: all of them are there, in their places, and readable."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sdc_ext.sets.grid import _Layout, draw_grid

LAYOUTS = [
    *((10, 1, 1, 1), (20, 50, 10, 1), (21, 10, 10, 1), (100, 1, 1, 4), (100, 10, 5, 4)),
    *((100, 50, 5, 4), (200, 1, 1, 8), (200, 10, 2, 8), (200, 50, 2, 8)),
]


@pytest.mark.parametrize(("classes", "ipc", "images", "blocks"), LAYOUTS)
def test_every_class_is_drawn_at_a_readable_size(
    classes: int, ipc: int, images: int, blocks: int
) -> None:
    layout = _Layout.of(classes, ipc)
    assert (layout.classes, layout.images, layout.blocks) == (classes, images, blocks)
    assert layout.blocks * layout.in_a_block >= classes > (layout.blocks - 1) * layout.in_a_block
    width, height = layout.size
    assert width <= 20 and height <= 17 and layout.side >= 0.4


@pytest.mark.parametrize(("classes", "ipc"), [(100, 1), (100, 10), (200, 50)])
def test_pictures_show_each_class_in_its_colour(classes: int, ipc: int, tmp_path: Path) -> None:
    # Each class has a colour of its own, in which no picture can be confused with another one.
    colours = torch.stack([torch.arange(classes), 255 - torch.arange(classes)], 1)
    colours = torch.cat([colours, torch.full((classes, 1), 7)], 1)
    kept = min(ipc, 5)
    labels = torch.arange(classes).repeat_interleave(kept)
    pixels = (colours[labels] / 255)[..., None, None].expand(-1, -1, 8, 8)
    names = [f"class {k} of many" for k in range(classes)]
    draw_grid(pixels, labels, names, kept, "a title", tmp_path / "grid.png")
    with Image.open(tmp_path / "grid.png") as picture:
        drawn = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    counts = {
        tuple(colour): n
        for colour, n in zip(*np.unique(drawn, axis=0, return_counts=True), strict=True)
    }
    wanted = [counts.get(tuple(colour), 0) for colour in colours.tolist()]
    # 20 pixels a side are enough to see an image of 8 by 8.
    assert min(wanted) >= 400 * _Layout.of(classes, kept).images
    assert max(wanted) < 1.3 * min(wanted)


def test_more_classes_than_are_drawn_are_named_in_the_title(tmp_path: Path) -> None:
    labels = torch.arange(201)
    names = [str(k) for k in range(201)]
    draw_grid(torch.rand(201, 1, 4, 4), labels, names, 1, "many", tmp_path / "grid.svg")
    assert _Layout.of(201, 1).classes == 200
    assert (tmp_path / "grid.svg").stat().st_size > 0

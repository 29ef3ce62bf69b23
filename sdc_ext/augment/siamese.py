"""Differentiable siamese augmentation (DSA): one draw, replayed on real and synthetic images.

It is implemented here because kornia's colour operations clamp to [0, 1], which would clip
normalised images. ``kornia_plugin`` plugs in any kornia augmentation, and ``dc`` has the
evaluation augmentation of plain DC.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sdc_ext.augment.base import Replay
from sdc_ext.errors import check_choice


def color(x: Tensor, u_brightness: Tensor, u_saturation: Tensor, u_contrast: Tensor) -> Tensor:
    """Changes brightness, then saturation, then contrast of images (B, C, H, W).

    Each parameter has shape (1,) or (B,) and is uniform in [0, 1); 0.5 leaves images unchanged.
    """
    x = x + (_per_image(u_brightness, x) - 0.5)
    mean = x.mean(dim=1, keepdim=True)
    x = (x - mean) * (2 * _per_image(u_saturation, x)) + mean
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return (x - mean) * (_per_image(u_contrast, x) + 0.5) + mean


def crop(x: Tensor, shift_h: Tensor, shift_w: Tensor) -> Tensor:
    """Shifts images by whole pixels; outside they are zero.

    ``out[h, w] = x[h + shift_h, w + shift_w]``, with integer shifts of shape (1,) or (B,).
    """
    batch, _, height, width = x.shape
    rows = torch.arange(height) + shift_h[:, None] + 1
    columns = torch.arange(width) + shift_w[:, None] + 1
    rows = rows.clamp(0, height + 1).expand(batch, -1)[:, None, :, None].to(x.device)
    columns = columns.clamp(0, width + 1).expand(batch, -1)[:, None, None, :].to(x.device)
    padded = F.pad(x, (1, 1, 1, 1))
    image = torch.arange(batch, device=x.device)[:, None, None, None]
    channel = torch.arange(x.shape[1], device=x.device)[None, :, None, None]
    return padded[image, channel, rows, columns]


def cutout(x: Tensor, center_h: Tensor, center_w: Tensor) -> Tensor:
    """Sets a rectangle of half the image's height and width to zero.

    Rows and columns beyond the border are clamped to it, so that a rectangle partly outside
    always erases the border, as in DSA's code. The centres are integers of shape (1,) or (B,).
    """
    erased_h = _erased(center_h, x.shape[2])
    erased_w = _erased(center_w, x.shape[3])
    keep = ~(erased_h[:, None, :, None] & erased_w[:, None, None, :])
    return x * keep.to(x.device, x.dtype)


def flip(x: Tensor, u_flip: Tensor) -> Tensor:
    """Mirrors an image left to right where ``u_flip``, uniform in [0, 1), is below 0.5."""
    return torch.where(_per_image(u_flip, x) < 0.5, x.flip(3), x)


def scale(x: Tensor, sx: Tensor, sy: Tensor, *, align_corners: bool) -> Tensor:
    """Scales images bilinearly around the centre; a factor below 1 enlarges the picture."""
    zero = torch.zeros_like(sx)
    return _warp(x, [sx, zero], [zero, sy], align_corners)


def rotate(x: Tensor, angle: Tensor, *, align_corners: bool) -> Tensor:
    """Rotates images bilinearly around the centre by ``angle`` radians; outside they are zero."""
    cos, sin = angle.cos(), angle.sin()
    return _warp(x, [cos, -sin], [sin, cos], align_corners)


DSA_OPERATIONS = ("color", "crop", "cutout", "flip", "scale", "rotate")

_MAX_SCALE = 1.2

_MAX_ANGLE = math.radians(15)

_CROP_PAD = 0.125


@dataclass(frozen=True)
class SiameseAugmentation:
    """Differentiable siamese augmentation: one operation per batch, drawn from ``strategy``.

    Args:
        strategy: Names of operations joined by ``_``, e.g. ``"color_crop_cutout"``.
        align_corners: Whether scale and rotate align the corner pixels' centres, as
            ``torch.nn.functional.grid_sample`` defines it; False in DC, DSA and DCC, True in MTT,
            TESLA, FTD and DATM.

    Raises:
        InputError: If there is no such operation.

    Reference: Zhao and Bilen, "Dataset Condensation with Differentiable Siamese Augmentation".
    """

    strategy: str
    align_corners: bool = False

    def __post_init__(self) -> None:
        for name in self.strategy.split("_"):
            check_choice("DSA operation", name, DSA_OPERATIONS)

    def draw(self, image_size: tuple[int, int], n: int = 1) -> Replay:
        """Draws as [`Augmentation.draw`][sdc_ext.augment.Augmentation.draw] says."""
        names = self.strategy.split("_")
        name = names[int(torch.randint(len(names), ()))]
        return self.replay(name, draw_parameters(name, image_size, n))

    def replay(self, operation: str, parameters: Mapping[str, Tensor]) -> Replay:
        """Returns one operation with given parameters, each of shape (1,) or (B,)."""
        if operation in ("scale", "rotate"):
            warp: Callable[..., Tensor] = scale if operation == "scale" else rotate
            return lambda x: warp(x, **parameters, align_corners=self.align_corners)
        operations: dict[str, Callable[..., Tensor]] = {
            "color": color,
            "crop": crop,
            "cutout": cutout,
            "flip": flip,
        }
        return lambda x: operations[operation](x, **parameters)


def draw_parameters(name: str, image_size: tuple[int, int], n: int) -> dict[str, Tensor]:
    """Draws the parameters of one operation, each of shape (n,), from torch's global generator."""
    if name == "color":
        return {f"u_{what}": torch.rand(n) for what in ("brightness", "saturation", "contrast")}
    if name == "flip":
        return {"u_flip": torch.rand(n)}
    if name == "rotate":
        return {"angle": (torch.rand(n) * 2 - 1) * _MAX_ANGLE}
    if name == "scale":
        spread = _MAX_SCALE - 1 / _MAX_SCALE
        return {axis: torch.rand(n) * spread + 1 / _MAX_SCALE for axis in ("sx", "sy")}
    drawn = {}
    for axis, length in zip("hw", image_size, strict=True):
        if name == "crop":
            most = int(length * _CROP_PAD + 0.5)
            drawn[f"shift_{axis}"] = torch.randint(-most, most + 1, (n,))
        else:
            odd = _cutout_length(length) % 2
            drawn[f"center_{axis}"] = torch.randint(0, length + 1 - odd, (n,))
    return drawn


def _cutout_length(length: int) -> int:
    return int(length * 0.5 + 0.5)


def _erased(center: Tensor, length: int) -> Tensor:
    """Returns which of ``length`` rows the rectangles around ``center`` (n,) cover.

    The result is boolean, (n, length).
    """
    size = _cutout_length(length)
    covered = (center[:, None] - size // 2 + torch.arange(size)).clamp(0, length - 1)
    return torch.zeros(len(center), length, dtype=torch.bool).scatter(1, covered, True)


def _per_image(parameter: Tensor, x: Tensor) -> Tensor:
    return parameter.to(x.device, x.dtype)[:, None, None, None]


def _warp(x: Tensor, row_x: list[Tensor], row_y: list[Tensor], align_corners: bool) -> Tensor:
    zero = torch.zeros_like(row_x[0])
    theta = torch.stack([torch.stack([*row, zero], -1) for row in (row_x, row_y)], -2)
    grid = F.affine_grid(
        theta.to(x.device, x.dtype), [len(theta), *x.shape[1:]], align_corners=align_corners
    )
    grid = grid.expand(len(x), -1, -1, -1)
    return F.grid_sample(x, grid, align_corners=align_corners)

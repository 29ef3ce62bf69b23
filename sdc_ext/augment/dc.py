"""Augments the distilled images on which plain DC trains its evaluation networks.

DC's code augments image by image with scipy. Here a whole batch is augmented at once, with the
same resulting pixels. Gradients with respect to the images are not needed there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from sdc_ext.augment.base import Replay
from sdc_ext.errors import check_choice

DC_OPERATIONS = ("crop", "scale", "rotate", "noise")

_CROP = 4

_SCALE = 0.2

_ANGLE = 45

_NOISE = 0.001


@dataclass(frozen=True)
class DCAugmentation:
    """Applies one of the named operations to each image: crop, scale, rotate or noise.

    Args:
        strategy: Names of operations joined by ``_``, e.g. ``"crop_scale_rotate"``.

    Raises:
        InputError: If there is no such operation.

    Reference: ``augment`` in the code of "Dataset Condensation with Gradient Matching".
    """

    strategy: str

    def __post_init__(self) -> None:
        for name in self.strategy.split("_"):
            check_choice("DC augmentation", name, DC_OPERATIONS)

    def draw(self, image_size: tuple[int, int], n: int = 1) -> Replay:
        """Draws as [`Augmentation.draw`][sdc_ext.augment.Augmentation.draw] says."""
        names = self.strategy.split("_")
        drawn = torch.randint(len(names), (n,))
        offsets = torch.randint(2 * _CROP, (2, n))
        factors = 1 - _SCALE + 2 * _SCALE * torch.rand(2, n, dtype=torch.float64)
        sizes = (factors * torch.tensor(image_size)[:, None]).long()
        angles = torch.randint(-_ANGLE, _ANGLE, (n,))
        noise_seed = int(torch.randint(2**31, ()))

        def replay(images: Tensor) -> Tensor:
            batch = len(images)
            means = images.mean(dim=(0, 2, 3))
            out = images.clone()
            for index, name in enumerate(names):
                chosen = (drawn == index).expand(batch)
                which = chosen.nonzero()[:, 0].to(images.device)
                part = images[which]
                if name == "crop":
                    shifts = offsets.expand(2, batch)[:, chosen]
                    out[which] = crop(part, shifts[0], shifts[1], means)
                elif name == "scale":
                    lengths = sizes.expand(2, batch)[:, chosen]
                    out[which] = scale(part, lengths[0], lengths[1])
                elif name == "rotate":
                    out[which] = rotate(part, angles.expand(batch)[chosen], means.mean())
                else:
                    generator = torch.Generator().manual_seed(noise_seed)
                    shape = (n, *images.shape[1:])
                    noise = torch.randn(shape, generator=generator, dtype=images.dtype)
                    drawn_noise = noise.expand(images.shape)[chosen].to(images.device)
                    out[which] = part + _NOISE * drawn_noise
            return out

        return replay


def crop(x: Tensor, offset_h: Tensor, offset_w: Tensor, fill: Tensor) -> Tensor:
    """Shifts images (n, C, H, W) by ``offset - 4`` pixels and fills the border.

    Args:
        x: Images (n, C, H, W).
        offset_h: Offsets (n,) of the rows, integers from 0 to 7.
        offset_w: Offsets (n,) of the columns, integers from 0 to 7.
        fill: The value of each channel outside the image (C,).
    """
    rows = torch.arange(x.shape[2]) + offset_h[:, None] - _CROP
    columns = torch.arange(x.shape[3]) + offset_w[:, None] - _CROP
    return _sample(x, rows, columns, fill)


def scale(x: Tensor, height: Tensor, width: Tensor) -> Tensor:
    """Resizes image i to ``height[i]`` x ``width[i]`` (nearest), centred on a canvas of zeros.

    Args:
        x: Images (n, C, H, W).
        height: New heights in pixels (n,).
        width: New widths in pixels (n,).
    """
    canvas = torch.stack([height, width]).amax(0).clamp(min=max(x.shape[2:]))
    rows = _resized(x.shape[2], height, canvas)
    columns = _resized(x.shape[3], width, canvas)
    return _sample(x, rows, columns, torch.zeros(x.shape[1], device=x.device, dtype=x.dtype))


def rotate(x: Tensor, degrees: Tensor, fill: Tensor) -> Tensor:
    """Rotates by whole degrees with cubic splines, as ``scipy.ndimage.rotate`` does.

    The picture grows to hold the rotated corners and is then cropped at the centre. It is half a
    pixel off where the two sizes differ by an odd number, as in DC's code.

    Args:
        x: Images (n, C, H, W).
        degrees: Angles (n,), integers.
        fill: The value outside the image, a scalar.
    """
    height, width = x.shape[2:]
    radians = torch.deg2rad(degrees.to(torch.float64))[:, None]
    cos, sin = radians.cos(), radians.sin()
    grown_h = (cos.abs() * height + sin.abs() * width + 0.5).long()
    grown_w = (sin.abs() * height + cos.abs() * width + 0.5).long()
    out_h = torch.arange(height) + (grown_h - height) // 2 - (grown_h - 1) / 2
    out_w = torch.arange(width) + (grown_w - width) // 2 - (grown_w - 1) / 2
    out_h, out_w = out_h[:, :, None], out_w[:, None, :]
    cos, sin = cos[..., None], sin[..., None]
    in_h = cos * out_h + sin * out_w + (height - 1) / 2
    in_w = -sin * out_h + cos * out_w + (width - 1) / 2
    return _spline(x, in_h.to(x.device), in_w.to(x.device), fill)


def _resized(length: int, target: Tensor, canvas: Tensor) -> Tensor:
    """Returns source positions (n, length) along an axis; -1 stands for outside.

    Args:
        length: The length of the axis, which the crop at the centre restores.
        target: Lengths that the axis is resized to (n,).
        canvas: Lengths of the canvases on which the resized images are centred (n,).
    """
    place = torch.arange(length) + ((canvas - length) // 2 - (canvas - target) // 2)[:, None]
    ratio = torch.tensor(float(length)) / target  # float32, since torch's interpolation uses it
    source = (place * ratio[:, None]).floor().long().clamp(max=length - 1)
    return source.where((place >= 0) & (place < target[:, None]), torch.tensor(-1))


def _sample(x: Tensor, rows: Tensor, columns: Tensor, fill: Tensor) -> Tensor:
    """Returns ``out[n, c, i, j] = x[n, c, rows[n, i], columns[n, j]]``, and ``fill`` outside."""
    rows, columns = rows.to(x.device)[:, :, None], columns.to(x.device)[:, None, :]
    height, width = x.shape[2:]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    image = torch.arange(len(x), device=x.device)[:, None, None]
    taken = x[image, :, rows.clamp(0, height - 1), columns.clamp(0, width - 1)]
    return taken.movedim(-1, 1).where(inside[:, None], fill[:, None, None])


def _spline(x: Tensor, at_h: Tensor, at_w: Tensor, fill: Tensor) -> Tensor:
    """Interpolates x (n, C, H, W) by cubic splines at coordinates (n, H, W) in pixels."""
    height, width = x.shape[2:]
    filter_h, filter_w = (_spline_filter(length).to(x.device) for length in (height, width))
    coefficients = (filter_h @ x.double() @ filter_w.T).flatten(2)
    out = torch.zeros(*x.shape, dtype=torch.float64, device=x.device)
    taps_h, taps_w = _taps(at_h, height), _taps(at_w, width)
    for row, weight_h in taps_h:
        for column, weight_w in taps_w:
            index = (row * width + column).flatten(1)[:, None].expand(-1, x.shape[1], -1)
            out += (weight_h * weight_w)[:, None] * coefficients.gather(2, index).view_as(out)
    inside = (at_h >= 0) & (at_h <= height - 1) & (at_w >= 0) & (at_w <= width - 1)
    return out.where(inside[:, None], fill.double()).to(x.dtype)


def _taps(at: Tensor, length: int) -> list[tuple[Tensor, Tensor]]:
    """Returns each coordinate's four neighbours, mirrored at the border, with their weights."""
    base = at.floor()
    t = at - base
    weights = (
        (1 - t) ** 3 / 6,
        2 / 3 - t**2 * (2 - t) / 2,
        2 / 3 - (1 - t) ** 2 * (1 + t) / 2,
        t**3 / 6,
    )
    taps = []
    for offset, weight in zip((-1, 0, 1, 2), weights, strict=True):
        neighbour = (base.long() + offset).abs()
        neighbour = torch.minimum(neighbour, 2 * (length - 1) - neighbour)
        taps.append((neighbour.clamp(0, length - 1), weight))
    return taps


@lru_cache(maxsize=8)
def _spline_filter(length: int) -> Tensor:
    """Returns the matrix that maps samples to cubic B-spline coefficients, mirrored at borders."""
    if length == 1:  # its own mirror image
        return torch.ones(1, 1, dtype=torch.float64)
    basis = torch.zeros(length, length, dtype=torch.float64)
    for i in range(length):
        basis[i, i] += 4 / 6
        basis[i, abs(i - 1)] += 1 / 6
        basis[i, length - 1 - abs(length - 2 - i)] += 1 / 6
    inverse: Tensor = torch.linalg.inv(basis)
    return inverse

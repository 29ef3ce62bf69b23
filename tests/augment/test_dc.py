"""DC's evaluation augmentation against scipy and torch, called as the original calls them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.ndimage
import torch
import torch.nn.functional as F
from torch import Tensor

from sdc_ext.augment.dc import DCAugmentation, crop, rotate, scale
from sdc_ext.errors import InputError

SIZES = ((28, 28), (15, 15), (17, 24), (31, 30))


def original_rotation(image: Tensor, degrees: int, fill: float) -> Tensor:
    height, width = image.shape[1:]
    turned = scipy.ndimage.rotate(image.numpy(), angle=degrees, axes=(-2, -1), cval=fill)
    r = int((turned.shape[-2] - height) / 2)
    c = int((turned.shape[-1] - width) / 2)
    return torch.tensor(turned[:, r : r + height, c : c + width])


def original_scale(image: Tensor, h: int, w: int) -> Tensor:
    channels, height, width = image.shape
    side = max(h, w, height, width)
    canvas = torch.zeros(channels, side, side)
    r, c = int((side - h) / 2), int((side - w) / 2)
    canvas[:, r : r + h, c : c + w] = F.interpolate(image[None], [h, w])[0]
    r, c = int((side - height) / 2), int((side - width) / 2)
    return canvas[:, r : r + height, c : c + width]


def original_crop(image: Tensor, r: int, c: int, means: Tensor) -> Tensor:
    channels, height, width = image.shape
    canvas = means[:, None, None].expand(channels, height + 8, width + 8).clone()
    canvas[:, 4 : 4 + height, 4 : 4 + width] = image
    return canvas[:, r : r + height, c : c + width]


@pytest.mark.parametrize("size", SIZES)
def test_rotation_equals_scipy_at_every_angle(size: tuple[int, int]) -> None:
    angles = range(-45, 46)
    images = torch.randn(len(angles), 3, *size)
    fill = images.mean(dim=(0, 2, 3)).mean()
    out = rotate(images, torch.tensor(angles), fill)
    expected = torch.stack(
        [original_rotation(x, a, float(fill)) for x, a in zip(images, angles, strict=True)]
    )
    assert out.dtype == images.dtype
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1)])
def test_rotation_takes_a_row_and_a_column(size: tuple[int, int]) -> None:
    images = torch.randn(2, 3, *size)
    out = rotate(images, torch.tensor([0, 45]), torch.tensor(7.0))
    torch.testing.assert_close(out[0], images[0])
    middle = out[1, :, size[0] // 2, size[1] // 2]
    torch.testing.assert_close(middle, images[1, :, size[0] // 2, size[1] // 2])


def test_rotation_fills_where_a_long_image_leaves_its_frame() -> None:
    # There the original fails, since the turned picture is narrower than the image.
    image = torch.randn(1, 2, 10, 40)
    fill = torch.tensor(7.0)
    out = rotate(image, torch.tensor([45]), fill)[0]
    turned = scipy.ndimage.rotate(image[0].numpy(), angle=45, axes=(-2, -1), cval=7.0)
    height, width = turned.shape[1:]
    assert (height, width) == (35, 35)
    torch.testing.assert_close(out[:, :, 3:38], torch.tensor(turned[:, 12:22]), rtol=0, atol=1e-5)
    assert bool((out[:, :, :3] == 7).all()) and bool((out[:, :, 38:] == 7).all())


@pytest.mark.parametrize(
    "size",
    [
        (28, 28),
        (17, 24),
        # 41 * (1 / 41) is below 1 in float32, and the factor must not be rounded like that.
        (30, 41),
    ],
)
def test_scale_equals_interpolation_on_a_canvas(size: tuple[int, int]) -> None:
    sides = [range(int(0.8 * length), int(1.2 * length) + 1) for length in size]
    targets = torch.tensor(list(itertools.product(*sides)))
    images = torch.randn(len(targets), 2, *size)
    out = scale(images, targets[:, 0], targets[:, 1])
    for ours, image, (h, w) in zip(out, images, targets.tolist(), strict=True):
        assert torch.equal(ours, original_scale(image, h, w))


@pytest.mark.parametrize("size", SIZES)
def test_crop_equals_padding_with_means_and_slicing(size: tuple[int, int]) -> None:
    offsets = torch.tensor(list(itertools.product(range(8), range(8))))
    images = torch.randn(len(offsets), 3, *size) + torch.tensor([1.0, 2.0, 3.0])[:, None, None]
    means = images.mean(dim=(0, 2, 3))
    out = crop(images, offsets[:, 0], offsets[:, 1], means)
    for ours, image, (r, c) in zip(out, images, offsets.tolist(), strict=True):
        assert torch.equal(ours, original_crop(image, r, c, means))


def candidates(name: str, images: Tensor, i: int) -> list[Tensor]:
    """All that the original could make of image ``i`` by that operation."""
    means = images.mean(dim=(0, 2, 3))
    height, width = images.shape[2:]
    if name == "crop":
        return [original_crop(images[i], r, c, means) for r in range(8) for c in range(8)]
    if name == "rotate":
        fill = float(np.mean(means.tolist()))
        return [original_rotation(images[i], a, fill) for a in range(-45, 45)]
    sides = [range(int(0.8 * length), int(1.2 * length) + 1) for length in (height, width)]
    return [original_scale(images[i], h, w) for h in sides[0] for w in sides[1]]


@pytest.mark.parametrize("name", ["crop", "rotate", "scale"])
def test_draws_are_among_the_originals_and_differ_by_image(name: str) -> None:
    images = torch.randn(24, 2, 14, 17)
    before = images.clone()
    out = DCAugmentation(name).draw((14, 17), n=24)(images)
    drawn = []
    for i in range(24):
        errors = [float((out[i] - c).abs().max()) for c in candidates(name, images, i)]
        assert min(errors) < 1e-5
        drawn.append(errors.index(min(errors)) / len(errors))
    assert len(set(drawn)) > 12
    assert min(drawn) < 1 / 6 and max(drawn) > 5 / 6
    assert torch.equal(images, before)


def test_each_image_gets_one_operation_of_the_strategy() -> None:
    images = torch.rand(64, 1, 12, 12) + 1
    out = DCAugmentation("crop_noise").draw((12, 12), n=64)(images)
    change = (out - images).abs().amax(dim=(1, 2, 3))
    assert 20 < int((change > 0.1).sum()) < 44
    assert bool(((change < 0.01) | (change > 0.1)).all())


@pytest.mark.parametrize("size", [(16, 16), (12, 20)])
def test_noise_has_the_originals_magnitude(size: tuple[int, int]) -> None:
    images = torch.rand(64, 3, *size)
    noise = DCAugmentation("noise").draw(size, n=64)(images) - images
    assert float(noise.std()) == pytest.approx(0.001, rel=0.05)
    assert abs(float(noise.mean())) < 1e-4
    assert not torch.equal(noise[0], noise[1])


@pytest.mark.parametrize("strategy", ["crop", "scale", "rotate"])
def test_single_draw_is_the_same_for_an_image_in_any_batch(strategy: str) -> None:
    # Crop and rotate fill with the mean of the batch: equal images keep it the same.
    images = torch.randn(1, 3, 11, 14).expand(5, -1, -1, -1)
    replay = DCAugmentation(strategy).draw((11, 14))
    together = replay(images)
    torch.testing.assert_close(replay(images[:2]), together[:2])
    torch.testing.assert_close(together, together[:1].expand_as(together))


def test_crop_offsets_reach_both_ends() -> None:
    rows = torch.arange(12.0)[:, None].expand(500, 1, 12, 12)
    out = DCAugmentation("crop").draw((12, 12), n=500)(rows)
    assert (out - rows)[:, 0, 6, 6].unique().tolist() == list(range(-4, 4))


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        ("crop_rotat", "unknown DC augmentation 'rotat': did you mean 'rotate'. choose from crop"),
        ("flip", "unknown DC augmentation 'flip'"),
        ("", "unknown DC augmentation ''"),
    ],
)
def test_unknown_operation_is_refused(strategy: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        DCAugmentation(strategy)

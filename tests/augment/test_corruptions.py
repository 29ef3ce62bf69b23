"""Corruptions: their severities, replay, and what they leave alone."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from sdc_ext.augment.corruptions import CORRUPTIONS, SEVERITIES, Corruption, parse_corruption
from sdc_ext.data.load import load_data
from sdc_ext.data.preprocessing import as_pixels
from sdc_ext.errors import InputError

every = pytest.mark.parametrize("name", CORRUPTIONS)


def pixels(channels: int = 3) -> torch.Tensor:
    """Smooth pictures."""
    torch.manual_seed(1)
    return F.interpolate(torch.rand(4, channels, 8, 8), (32, 32), mode="bilinear")


@every
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_severities_rise_and_pixels_stay_pixels(name: str, channels: int) -> None:
    images, changes = pixels(channels), []
    for severity in SEVERITIES:
        torch.manual_seed(0)
        corrupted = Corruption(name, severity).draw((32, 32))(images)
        assert corrupted.shape == images.shape and corrupted.dtype == images.dtype
        assert float(corrupted.min()) >= 0 and float(corrupted.max()) <= 1
        changes.append(float((corrupted - images).square().mean()))
    assert changes[0] < changes[2] < changes[4] and changes[0] > 0


@every
def test_a_draw_replays_and_leaves_the_generator_alone(name: str) -> None:
    torch.manual_seed(0)
    replay = Corruption(name, 3).draw((32, 32))
    state = torch.get_rng_state()
    first, again = replay(pixels()), replay(pixels())
    torch.manual_seed(0)
    torch.randint(2**31, ())
    assert torch.equal(first, again)
    assert torch.equal(torch.get_rng_state(), state)


def test_normalised_images_are_corrupted_as_pixels() -> None:
    data = load_data("digits")
    images = data.train.images[:4]
    torch.manual_seed(0)
    expected = data.normalize(Corruption("contrast", 2).draw((8, 8))(as_pixels(images)))
    seen = Corruption("contrast", 2, data.preprocessing).draw((8, 8))(data.normalize(images))
    torch.testing.assert_close(seen, expected)


def test_known_values() -> None:
    image = torch.tensor([[[[0.2, 0.4], [0.4, 0.6]]]])
    contrast = Corruption("contrast", 2).draw((2, 2))(image)
    torch.testing.assert_close(contrast, torch.tensor([[[[0.3, 0.4], [0.4, 0.5]]]]))
    bright = Corruption("brightness", 5).draw((2, 2))(image)
    torch.testing.assert_close(bright, image + 0.3)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("fog:1", "unknown corruption 'fog'"),
        ("jpeg", "cannot read the corruption 'jpeg'"),
        ("jpeg:6", "severity of jpeg must be from 1 to 5, got 6"),
        ("jpeg:²", "cannot read the corruption"),
    ],
)
def test_others_are_refused(spec: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_corruption(spec)

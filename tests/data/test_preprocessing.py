"""Normalisation and back, by statistics and by whitening."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sdc_ext.data.load import load_data
from sdc_ext.data.preprocessing import Preprocessing, as_pixels


@given(
    count=st.integers(1, 5),
    channels=st.sampled_from([1, 3]),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    as_bytes=st.booleans(),
)
def test_pixels_undo_normalize(
    count: int, channels: int, height: int, width: int, as_bytes: bool
) -> None:
    images = torch.rand(count, channels, height, width)
    images = (images * 255).to(torch.uint8) if as_bytes else images
    statistics = Preprocessing.of_statistics(images)
    back = statistics.pixels(statistics.normalize(images))
    torch.testing.assert_close(back, as_pixels(images), rtol=1e-4, atol=1e-5)


def test_statistics_standardise_their_images() -> None:
    images = torch.rand(40, 3, 4, 5)
    normalised = Preprocessing.of_statistics(images).normalize(images)
    torch.testing.assert_close(normalised.mean((0, 2, 3)), torch.zeros(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(normalised.std((0, 2, 3), correction=0), torch.ones(3))


def test_whitening_takes_the_place_of_statistics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    images = torch.rand(12, 1, 4, 4)
    whitened = Preprocessing.of_whitening(images)
    assert (whitened.mean, whitened.std) == ((0.0,), (1.0,))
    assert whitened.whitening is not None
    assert torch.equal(whitened.normalize(images), whitened.whitening.apply(images))
    assert whitened.whitened_by == whitened.whitening.fingerprint
    assert Preprocessing((0.0,), (1.0,)).whitened_by is None


def test_data_with_other_training_images_are_not_interchangeable() -> None:
    data = load_data("digits")
    assert data.identity == load_data("digits").identity
    assert data.identity != data.held_out().identity

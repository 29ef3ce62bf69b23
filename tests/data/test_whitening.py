"""ZCA whitening against the originals' numbers, and its cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers import Golden, relative_error

from sdc_ext.data.load import load_data
from sdc_ext.data.whitening import Whitening


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.mark.parametrize(
    ("name", "tolerance"), [("zca_n20_3x5_float64", 1e-9), ("zca_n40_3x5_float32", 1e-4)]
)
def test_whitening_is_the_originals(
    golden: Callable[[str], Golden], name: str, tolerance: float
) -> None:
    case = golden(name)
    whitening = Whitening.fit(case["train"])
    for split in ("train", "test"):
        white = whitening.apply(case[split])
        assert relative_error(white, case[f"{split}_white"]) < tolerance
        assert relative_error(whitening.undo(white), case[f"{split}_back"]) < tolerance


def test_fit_is_kept_for_the_next_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.rand(12, 1, 4, 4)
    first = Whitening.fit_once(images)
    (kept,) = (tmp_path / "sdc_ext").iterdir()
    assert kept.name == f"zca-{first.fingerprint}.safetensors"
    monkeypatch.setattr(Whitening, "fit", lambda pixels: pytest.fail("fitted again"))
    again = Whitening.fit_once(images)
    assert torch.equal(again.apply(images), first.apply(images))
    assert again.fingerprint == first.fingerprint


def test_damaged_cache_is_fitted_again(tmp_path: Path) -> None:
    images = torch.rand(12, 1, 4, 4)
    white = Whitening.fit_once(images).apply(images)
    (kept,) = (tmp_path / "sdc_ext").iterdir()
    kept.write_bytes(b"x" * 50)
    assert torch.equal(Whitening.fit_once(images).apply(images), white)


def test_other_images_have_another_fingerprint() -> None:
    images = torch.rand(12, 1, 4, 4)
    one, other = Whitening.fit(images), Whitening.fit(images + 1e-3)
    assert one.fingerprint != other.fingerprint


def test_whitened_data_are_white_and_come_back() -> None:
    data = load_data("digits").whitened()
    white = data.normalize(data.train.images)
    covariance = torch.cov(white.flatten(1).T)
    spread = torch.linalg.eigvalsh(covariance)
    assert float(white.mean().abs()) < 1e-4
    # Eigenvalues s become s / (s + 0.1): below one, and much closer to each other than before.
    assert float(spread.min()) > -1e-5
    assert float(spread.max()) < 1
    pixels = data.preprocessing.pixels(white)
    torch.testing.assert_close(pixels, data.train.images, rtol=1e-4, atol=1e-4)

"""ZCA whitening against the originals' numbers, its cost, and its cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers import Golden, relative_error

from sdc_ext.data import whitening as module
from sdc_ext.data.load import load_data
from sdc_ext.data.whitening import Whitening
from sdc_ext.errors import InputError


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


def test_few_images_are_whitened_as_by_the_whole_matrix() -> None:
    images, others = torch.rand(7, 3, 4, 5).double(), torch.rand(5, 3, 4, 5).double()
    few = Whitening.fit(images)
    whole = Whitening(module._fit_many(images), few.fingerprint)
    white = few.apply(others)
    torch.testing.assert_close(white, whole.apply(others))
    torch.testing.assert_close(few.undo(white), others)
    leaf = others.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(few.apply(leaf).square().sum(), leaf)
    assert bool((gradient != 0).all())


def test_one_image_has_no_directions() -> None:
    image, other = torch.rand(2, 1, 2, 3, 3).double()
    white = Whitening.fit(image).apply(other)
    torch.testing.assert_close(white, (other - image) / module.EPS**0.5)


def test_large_images_need_little_memory_if_they_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "available_memory", lambda: 50e6)
    images = torch.rand(6, 3, 96, 96)  # the whole matrix would take 3 GB
    whitening = Whitening.fit(images)
    assert torch.allclose(whitening.undo(whitening.apply(images)), images, atol=1e-3)


def test_whitening_that_needs_too_much_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "available_memory", lambda: 2e9)
    images = torch.zeros(1, 3, 64, 64).expand(13_000, -1, -1, -1)
    message = "ZCA whitening of 13000 images of 3x64x64 needs about 11 GB of memory, and 2 GB are"
    with pytest.raises(InputError, match=message):
        Whitening.fit(images)


def test_long_fit_is_announced(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Whitening.fit(torch.rand(12, 1, 4, 4))
    assert caplog.messages == []
    monkeypatch.setattr(module, "_LONG_IN_SECONDS", 0)
    Whitening.fit(torch.rand(12, 1, 4, 4))
    (line,) = caplog.messages
    assert line.startswith("fitting the ZCA whitening of 12 images of 1x4x4 takes about 0 seconds")


@pytest.mark.parametrize("home", ["/dev/null", "/proc/nope", "a file"])
def test_cache_is_not_needed(
    home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    (tmp_path / "a file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / home))
    images = torch.rand(12, 1, 4, 4)
    white = Whitening.fit_once(images).apply(images)
    torch.testing.assert_close(white, Whitening.fit(images).apply(images))
    (line,) = caplog.messages
    assert line.startswith("the ZCA whitening was not kept") and "set XDG_CACHE_HOME" in line


def test_cache_is_not_needed_without_any_home(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", no_home)
    Whitening.fit_once(torch.rand(12, 1, 4, 4))
    assert "set XDG_CACHE_HOME" in caplog.text

"""What statistics conclude from images and labels, and that noise is not mistaken for anything."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from originals import pixels_of
from torch import Tensor

from sdc_ext.data.known import STATISTICS
from sdc_ext.data.load import load_data
from sdc_ext.data.preprocessing import Preprocessing
from sdc_ext.data.real import RealData, Split
from sdc_ext.sets.decoding import Decoder
from sdc_ext.sets.recognition.conclusions import Conclusion
from sdc_ext.sets.recognition.labels import as_labels, recognise_labels, recognise_order
from sdc_ext.sets.recognition.mosaics import recognise_factor
from sdc_ext.sets.recognition.origins import candidates, recognise_origin
from sdc_ext.sets.recognition.pixels import (
    BYTES,
    NORMALISED,
    UNIT,
    WHITENED,
    recognise_statistics,
    recognise_whitening,
    study_pixels,
)
from sdc_ext.sets.recognition.spectra import Reference

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def digits() -> RealData:
    return load_data("digits")


@pytest.fixture(scope="module")
def photographs() -> RealData:
    """Pictures whose spectrum falls like that of photographs: 3x16x16, of four classes."""
    torch.manual_seed(3)
    distance = (torch.fft.fftfreq(16)[:, None] ** 2 + torch.fft.fftfreq(16) ** 2).sqrt()
    amplitude = 1 / distance.clamp(min=1 / 16)
    classes = torch.arange(600) % 4
    shared = torch.randn(4, 1, 16, 16)[classes] + 1.5 * torch.randn(600, 1, 16, 16)
    spectrum = torch.fft.fft2(shared + 0.3 * torch.randn(600, 3, 16, 16)) * amplitude
    smooth = torch.fft.ifft2(spectrum).real
    pixels = (0.5 + 0.12 * smooth / smooth.std()).clamp(0, 1)
    images = (255 * pixels).round().byte()
    train, test = slice(0, 400), slice(400, 600)
    return RealData(
        "pictures",
        Split(images[train], classes[train]),
        Split(images[test], classes[test]),
        ("a", "b", "c", "d"),
        Preprocessing.of_statistics(images[train]),
    )


def studied(images: Tensor, data: RealData) -> Conclusion:
    return study_pixels(images, Reference.of(data), data.preprocessing).conclusion


@pytest.mark.parametrize("name", ["digits", "photographs"])
@pytest.mark.parametrize("noise", [0.0, 0.5, 1.0])
def test_normalised_and_whitened_images_are_distinguished(
    name: str, noise: float, request: pytest.FixtureRequest
) -> None:
    data: RealData = request.getfixturevalue(name)
    pixels, _ = pixels_of(data, 10)
    torch.manual_seed(1)
    for how, kind in ((data, NORMALISED), (data.whitened(), WHITENED)):
        images = how.normalize(pixels)
        images = images + noise * images.std() * torch.randn_like(images)
        found = studied(images, data)
        assert (found.conclusion, found.certainty) == (kind, "sure"), found.evidence


@pytest.mark.parametrize("name", ["digits", "photographs"])
@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0])
def test_noise_is_nothing_for_sure(name: str, scale: float, request: pytest.FixtureRequest) -> None:
    data: RealData = request.getfixturevalue(name)
    for seed in range(5):
        torch.manual_seed(seed)
        images = scale * torch.randn(10, data.channels, *data.image_size)
        reference = Reference.of(data)
        study = study_pixels(images, reference, data.preprocessing)
        assert study.conclusion.certainty == "unknown", study.conclusion.evidence
        assert study.noise == 1.0
        factor = recognise_factor(data.preprocessing.pixels(images), reference, study.noise)
        assert factor.certainty == "unknown"
        labels = torch.arange(10) % len(data.classes)
        origin = recognise_origin(images, labels, data, like_noise=True)
        assert origin.certainty != "sure" and origin.conclusion == data.name


def test_pixels_are_told_by_their_range(digits: RealData) -> None:
    pixels, _ = pixels_of(digits, 1)
    for images, kind in (
        (pixels, UNIT),
        (pixels + 0.03 * torch.rand_like(pixels), UNIT),
        ((255 * pixels).round(), BYTES),
        ((255 * pixels).round().byte(), BYTES),
    ):
        found = studied(images, digits)
        assert (found.conclusion, found.certainty) == (kind, "sure"), found.evidence
    # More below 0 than pixels have, and less than anything that is centred.
    between = torch.linspace(-0.15, 0.85, 640).view(10, 1, 8, 8)
    assert studied(between, digits).certainty == "unknown"


def test_bytes_show_the_statistics(photographs: RealData) -> None:
    pixels, _ = pixels_of(photographs, 2)
    reference, own = Reference.of(photographs), photographs.preprocessing
    known = {
        "the data's own": own,
        "CIFAR-10's": Preprocessing(*STATISTICS["cifar10"]),
        "ImageNet's": Preprocessing(*STATISTICS["tinyimagenet"]),
        "0.5": Preprocessing((0.5,) * 3, (0.5,) * 3),
    }
    for name, statistics in known.items():
        found, by = recognise_statistics(statistics.normalize(pixels), reference, own)
        assert (found.conclusion, found.certainty) == (name, "sure"), found.evidence
        assert by == statistics
    blurred = own.normalize(pixels) * 1.01
    assert recognise_statistics(blurred, reference, own)[0].certainty == "likely"


def test_whitening_by_other_images_leaves_the_range(digits: RealData) -> None:
    pixels, _ = pixels_of(digits, 10)
    few = Split(digits.train.images[:300], digits.train.labels[:300])
    other, ours = replace(digits, train=few).whitened(), digits.whitened()
    assert recognise_whitening(ours.normalize(pixels), ours).certainty == "sure"
    assert recognise_whitening(other.normalize(pixels), ours).certainty == "likely"
    assert recognise_whitening(digits.normalize(pixels), ours).certainty == "unknown"


@pytest.mark.parametrize("name", ["digits", "photographs"])
@pytest.mark.parametrize("noise", [0.0, 0.5])
@pytest.mark.parametrize("factor", [1, 2])
def test_seams_show_the_factor(
    factor: int, noise: float, name: str, request: pytest.FixtureRequest
) -> None:
    data: RealData = request.getfixturevalue(name)
    pixels, _ = pixels_of(data, 20 * factor**2)
    stored = Decoder(factor).encode(pixels)
    torch.manual_seed(2)
    stored = stored + noise * stored.std() * torch.randn_like(stored)
    found = recognise_factor(stored, Reference.of(data), noise**2 / (1 + noise**2))
    assert (found.conclusion, found.certainty) == (str(factor), "sure"), found.evidence


def test_labels_are_told_by_their_values() -> None:
    hard = torch.tensor([0, 0, 1, 2])
    one_hot = torch.nn.functional.one_hot(hard, 3)
    soft = 0.7 * one_hot + 0.1
    for labels, kind, certainty in (
        (hard, "classes", "sure"),
        (hard.float(), "classes", "sure"),
        (soft, "probabilities", "sure"),
        (one_hot, "probabilities", "sure"),
        (soft.half().float() * 1.005, "probabilities", "likely"),
        (soft.log(), "logits", "sure"),
        (soft * 9, "logits", "likely"),
    ):
        found = recognise_labels(labels)
        assert (found.conclusion, found.certainty) == (kind, certainty), found.evidence
    torch.testing.assert_close(as_labels(soft.log(), recognise_labels(soft.log())), soft)
    torch.testing.assert_close(as_labels(soft * 1.005, recognise_labels(soft * 1.005)), soft)


def test_order_is_told_with_the_counts() -> None:
    assert recognise_order(torch.tensor([0, 0, 1, 1])).conclusion == "sorted by class"
    found = recognise_order(torch.tensor([0, 1, 0, 1, 1]))
    assert found.conclusion == "unsorted" and "2 classes have 2 to 3 images" in found.evidence
    assert "2 classes have 1 images" in recognise_order(torch.tensor([0, 10**15])).evidence


def test_a_linear_classifier_knows_the_data(digits: RealData) -> None:
    pixels, labels = pixels_of(digits, 3)
    assert recognise_origin(pixels, labels, digits, like_noise=False).certainty == "sure"
    wrong = recognise_origin(pixels, labels.roll(3), digits, like_noise=False)
    assert wrong.conclusion == "not digits, or other labels"


def test_data_sets_are_named_by_shape_and_classes() -> None:
    assert candidates((1, 8, 8), 10, exact=False) == ["digits"]
    assert candidates((1, 28, 28), 9, exact=False) == ["mnist", "fashionmnist"]
    assert candidates((3, 32, 32), 100, exact=True) == ["cifar100"]
    assert candidates((3, 32, 32), 10, exact=True) == ["svhn", "cifar10"]
    assert candidates((3, 32, 32), 0, exact=None) == ["svhn", "cifar10", "cifar100"]
    assert candidates((3, 128, 128), 10, exact=True) == []

"""Augmentations are tried on real images before a run, with a gradient."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor

from sdc_ext.augment import SiameseAugmentation, check_augmentation, parse_augmentation
from sdc_ext.augment.siamese import DSA_OPERATIONS
from sdc_ext.data.preprocessing import Preprocessing
from sdc_ext.data.whitening import Whitening
from sdc_ext.errors import InputError


def photographs(n: int = 4, side: int = 32) -> Tensor:
    """Smooth images with all grey levels, since equalising needs more than a few pixels."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(n, 3, 6, 6, generator=generator)
    return torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic").clamp(0.05, 0.95)


CHANNELS = Preprocessing((0.5, 0.4, 0.3), (0.2, 0.25, 0.3))


@pytest.mark.parametrize("operation", [*DSA_OPERATIONS, "_".join(DSA_OPERATIONS), "none"])
def test_siamese_augmentations_fit_and_know_no_normalisation(operation: str) -> None:
    check_augmentation(operation, CHANNELS.normalize(photographs()), CHANNELS)
    if operation != "none":
        given = parse_augmentation(operation, normalisation=CHANNELS)
        assert given == SiameseAugmentation(operation)


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("RandomEqualize(p=0.1)", "passes no gradient to the images"),
        ("RandomPosterize", "passes no gradient to the images"),
        ("RandomClahe", "passes no gradient to the images"),
        ("RandomCrop(size=(32, 32))", "leaves these images as they are"),
        ("RandomMixUpV2", "combines several images, so that no label fits the result"),
        ("RandomCutMixV2", "combines several images"),
        ("RandomMosaic", "combines several images"),
        ("RandomResizedCrop(size=(16, 16))", "turned images of shape"),
    ],
)
def test_augmentation_that_cannot_work_is_refused_with_the_reason(
    expression: str, reason: str
) -> None:
    images = CHANNELS.normalize(photographs())
    with pytest.raises(InputError, match=rf"kornia:{re.escape(expression)}.* {reason}.*: "):
        check_augmentation(f"kornia:{expression}", images, CHANNELS)


def test_gradient_that_is_not_finite_is_refused() -> None:
    black = photographs().sub(0.5).clamp(min=0)  # the root has no derivative at zero
    with pytest.raises(InputError, match=r"RandomGamma.* has a gradient that is not finite"):
        check_augmentation("kornia:RandomGamma(gamma=(0.5, 0.6))", black)


def test_evaluation_needs_no_gradient() -> None:
    images = CHANNELS.normalize(photographs())
    check_augmentation("kornia:RandomEqualize", images, CHANNELS, differentiable=False)


def test_trying_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    check_augmentation("color_crop", photographs())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("normalisation", ["channels", "whitening"])
def test_kornia_works_on_pixels(normalisation: str) -> None:
    pixels = photographs(side=8)
    whitening = Whitening.fit(photographs(n=200, side=8))
    by = CHANNELS if normalisation == "channels" else Preprocessing((0,) * 3, (1,) * 3, whitening)
    images = by.normalize(pixels).requires_grad_()
    spec = "kornia:ColorJiggle(brightness=0.1, p=1.0)"
    torch.manual_seed(1)
    expected = parse_augmentation(spec).draw((8, 8))(pixels)
    torch.manual_seed(1)
    augmented = parse_augmentation(spec, normalisation=by).draw((8, 8))(images)
    torch.testing.assert_close(augmented, by.normalize(expected), rtol=1e-4, atol=1e-4)
    (gradient,) = torch.autograd.grad(augmented.square().sum(), images)
    assert float((gradient != 0).float().mean()) > 0.9

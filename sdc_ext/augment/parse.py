"""Makes augmentations from the names that options and files use."""

from __future__ import annotations

import torch
from torch import Tensor

from sdc_ext.augment.base import Augmentation, NoAugmentation, Normalisation
from sdc_ext.augment.idc import IDCAugmentation
from sdc_ext.augment.siamese import SiameseAugmentation
from sdc_ext.errors import InputError

# The number of draws that are tried. In a single one, an image may be erased.
_DRAWS = 8

# Distilled images leave the range of the real ones, about this far.
_BEYOND = 1.5


def parse_augmentation(
    spec: str,
    *,
    align_corners: bool = False,
    normalisation: Normalisation | None = None,
    always: bool = False,
) -> Augmentation:
    """Returns the augmentation that ``spec`` names.

    Args:
        spec: ``"none"``; a DSA strategy such as ``"color_crop_cutout_flip_scale_rotate"``;
            ``"dc:crop_scale_rotate"`` for the evaluation augmentation of plain DC;
            ``"idc:color_crop_flip_scale_rotate"`` for IDC's; or
            ``"kornia:RandomAffine(degrees=15)"``.
        align_corners: See [`SiameseAugmentation`][sdc_ext.augment.SiameseAugmentation].
        normalisation: The normalisation of the images, which kornia's augmentations undo while
            they work; None if the images are pixels. All others work on normalised images, as in
            the original scripts.
        always: Apply kornia's augmentations in every draw, whatever their probability.

    Raises:
        InputError: If it names no augmentation.
    """
    kind, _, rest = spec.partition(":")
    if spec == "none":
        return NoAugmentation()
    if kind == "kornia":
        from sdc_ext.augment.kornia_plugin import KorniaAugmentation

        return KorniaAugmentation(rest, normalisation, always)
    if kind == "dc":
        from sdc_ext.augment.dc import DCAugmentation

        return DCAugmentation(rest)
    if kind == "idc":
        return IDCAugmentation(rest)
    return SiameseAugmentation(spec, align_corners)


def check_augmentation(
    spec: str,
    images: Tensor,
    normalisation: Normalisation | None = None,
    *,
    differentiable: bool = True,
) -> None:
    """Tries an augmentation on a few images, so that a bad choice fails before the work starts.

    Args:
        spec: The augmentation; see [`parse_augmentation`][sdc_ext.augment.parse_augmentation].
        images: A few real images (B, C, H, W), normalised.
        normalisation: The normalisation of the images; None if they are pixels.
        differentiable: Whether gradients have to pass through it to the images.

    Raises:
        InputError: If there is no such augmentation, it does not take these images, changes their
            shape or nothing at all, its values are not finite, or its gradient is missing, zero
            or not finite.
    """
    augmentation = parse_augmentation(spec, normalisation=normalisation, always=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        problem = _problem(augmentation, images, differentiable)
    if problem is not None and spec != "none":
        raise InputError(f"the augmentation {spec} {problem}: choose another")


def _problem(augmentation: Augmentation, images: Tensor, differentiable: bool) -> str | None:
    """Returns why networks cannot be trained, or images distilled, under an augmentation."""
    changed = False
    reached = torch.zeros(len(images), dtype=torch.bool, device=images.device)
    for draw in range(_DRAWS):
        replay = augmentation.draw((images.shape[2], images.shape[3]), len(images) if draw else 1)
        for factor in (1.0, _BEYOND):
            leaf = (factor * images).requires_grad_()
            augmented = replay(leaf)
            if not bool(augmented.isfinite().all()):
                return "makes values that are not finite"
            changed |= factor == 1 and not torch.allclose(augmented, leaf, atol=1e-4)
            if differentiable:
                gradient = _gradient(augmented, leaf)
                if not bool(gradient.isfinite().all()):
                    return "has a gradient that is not finite"
                if not bool(gradient.any()):
                    return "passes no gradient to the images, so that nothing could be distilled"
                reached |= gradient.flatten(1).any(1)
    if not changed:
        return "leaves these images as they are"
    if differentiable and not bool(reached.all()):
        return "passes no gradient to some images, which could not be distilled"
    return None


def _gradient(augmented: Tensor, leaf: Tensor) -> Tensor:
    """Returns the gradient of a random sum of the augmented images; zero without a graph."""
    if not augmented.requires_grad:
        return torch.zeros_like(leaf)
    weights = torch.randn(augmented.shape).to(leaf.device, leaf.dtype)
    (gradient,) = torch.autograd.grad(augmented, leaf, weights)
    return gradient

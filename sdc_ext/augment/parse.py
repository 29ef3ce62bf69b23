"""Makes augmentations from the names that options and files use."""

from __future__ import annotations

import torch

from sdc_ext.augment.base import Augmentation, NoAugmentation
from sdc_ext.augment.siamese import SiameseAugmentation


def parse_augmentation(spec: str, *, align_corners: bool = False) -> Augmentation:
    """Returns the augmentation that ``spec`` names.

    Args:
        spec: ``"none"``; a DSA strategy such as ``"color_crop_cutout_flip_scale_rotate"``;
            ``"dc:crop_scale_rotate"`` for the evaluation augmentation of plain DC; or
            ``"kornia:RandomAffine(degrees=15)"``.
        align_corners: See [`SiameseAugmentation`][sdc_ext.augment.SiameseAugmentation].

    Raises:
        InputError: If it names no augmentation.
    """
    kind, _, rest = spec.partition(":")
    if spec == "none":
        return NoAugmentation()
    if kind == "kornia":
        from sdc_ext.augment.kornia_plugin import KorniaAugmentation

        return KorniaAugmentation(rest)
    if kind == "dc":
        from sdc_ext.augment.dc import DCAugmentation

        return DCAugmentation(rest)
    return SiameseAugmentation(spec, align_corners)


def check_augmentation(spec: str, channels: int, image_size: tuple[int, int]) -> None:
    """Tries an augmentation on two images, so that a bad choice fails before the work starts.

    Args:
        spec: The augmentation; see [`parse_augmentation`][sdc_ext.augment.parse_augmentation].
        channels: The number of channels, 1 or 3.
        image_size: (height, width) in pixels.

    Raises:
        InputError: If there is no such augmentation, or it does not take images of this shape.
    """
    parse_augmentation(spec).draw(image_size)(torch.zeros(2, channels, *image_size))

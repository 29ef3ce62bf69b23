"""Decodes stored images that hold several smaller ones each: IDC's multi-formation.

A stored image (C, H, W) is cut into factor x factor parts, and each part is enlarged to (C, H, W).
Networks see the enlarged parts, so that the same storage teaches with more images of fewer details.

Reference: Kim et al., "Dataset Condensation via Efficient Synthetic-Data Parameterization", ICML
2022, Section 4, and its code (``decode_zoom`` in ``condense.py``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch.nn.functional as F
from einops import rearrange, reduce
from torch import Tensor

from sdc_ext._values import LARGEST_FACTOR, Factor, check_fields
from sdc_ext._words import number_of
from sdc_ext.data.real import RealData
from sdc_ext.errors import InputError

_FACTORS = range(1, LARGEST_FACTOR + 1)


@dataclass(frozen=True)
class Decoder:
    """Turns stored images into those that networks see, and labels accordingly.

    The images that one stored image holds stay beside each other, row by row from its top left.
    IDC's code has the same images in another order: by their places first. With factor 1, all
    methods return what they are given.

    Attributes:
        factor: The number of parts per side of a stored image, from 1 to 8; it divides the height
            and the width.

    Raises:
        InputError: If the factor is out of range.
    """

    factor: Factor = 1

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def parts(self) -> int:
        """The number of images that a stored one holds."""
        return self.factor**2

    def divides(self, size: tuple[int, int]) -> bool:
        """Returns whether images of this height and width can be cut into equal parts."""
        return math.gcd(*size) % self.factor == 0

    def check(self, data: RealData, ipc: int) -> None:
        """Checks that real data can be distilled into sets of this factor.

        IDC's code widens images whose size the factor does not divide by a grey edge, which becomes
        part of what networks see; here they are refused.

        Args:
            data: The real data.
            ipc: The number of stored images per class.

        Raises:
            InputError: If the factor does not divide the height and the width of the images, or a
                class has fewer training images than the set decodes to.
        """
        height, width = data.image_size
        if not self.divides(data.image_size):
            allowed = (str(f) for f in _FACTORS if Decoder(f).divides(data.image_size))
            raise InputError(
                f"`factor` {self.factor} does not divide images of {height}x{width} pixels: "
                f"choose from {', '.join(allowed)}"
            )
        number = ipc * self.parts
        for name, index in zip(data.classes, data.indices_by_class(), strict=True):
            if self.factor > 1 and len(index) < number:
                images = number_of(len(index), "training image")
                raise InputError(
                    f"ipc {ipc} with `factor` {self.factor} makes {number} images per class, more "
                    f"than the {images} of class {name!r}: lower one of them"
                )

    def decode(self, stored: Tensor) -> Tensor:
        """Returns the images that networks see, differentiably.

        Args:
            stored: Stored images (n, C, H, W).

        Returns:
            Images (n * parts, C, H, W): the parts, enlarged by bilinear interpolation.
        """
        if self.factor == 1:
            return stored
        places = {"down": self.factor, "right": self.factor}
        parts = rearrange(stored, "n c (down h) (right w) -> (n down right) c h w", **places)
        return F.interpolate(parts, size=stored.shape[-2:], mode="bilinear")

    def encode(self, images: Tensor) -> Tensor:
        """Shrinks images and puts them together into stored ones, in the order of ``decode``.

        Args:
            images: Images (n * parts, C, H, W), of which every factor-th row and column is kept.

        Returns:
            Stored images (n, C, H, W).

        Reference: IDC's initialisation ``mix``, which interpolates by the nearest pixel.
        """
        if self.factor == 1:
            return images
        small = images[..., :: self.factor, :: self.factor]
        places = {"down": self.factor, "right": self.factor}
        stored: Tensor = rearrange(
            small, "(n down right) c h w -> n c (down h) (right w)", **places
        )
        return stored

    def repeat(self, labels: Tensor) -> Tensor:
        """Returns the labels (n * parts, ...) of decoded images, given those of stored ones."""
        return labels if self.factor == 1 else labels.repeat_interleave(self.parts, 0)

    def mean(self, rows: Tensor) -> Tensor:
        """Averages rows (n * parts, K) of decoded images to rows (n, K) of stored ones."""
        if self.factor == 1:
            return rows
        means: Tensor = reduce(rows, "(n parts) k -> n k", "mean", parts=self.parts)
        return means


AS_STORED = Decoder()
"""Decodes nothing: networks see the images as they are stored."""

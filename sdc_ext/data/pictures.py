"""Decodes pictures as a person sees them: upright, on a background, with all their levels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageColor, ImageOps
from torch import Tensor

from sdc_ext._reading import regular_file
from sdc_ext._words import number_of
from sdc_ext.errors import InputError

# Formats whose readers run other programs.
_PROGRAMS = {"EPS", "WMF"}

# Formats that Pillow recognises without being able to read them.
_UNREADABLE = {"BUFR", "GRIB", "HDF5", "MPEG"}

_ORIENTATION = 0x0112

_BITS_PER_SAMPLE = 258


class Picture(NamedTuple):
    """A decoded picture.

    Attributes:
        array: The pixels (C, H, W), with C = 1 if they are grey and 3 otherwise: uint8, or float32
            in [0, 1] if they have more than 8 bits. Pictures of 32 bits have no fixed range; theirs
            are as in the file.
        changes: What was done to it, in words that end a sentence such as "3 were turned upright".
    """

    array: np.ndarray
    changes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Decoding:
    """How pictures become pixels.

    Attributes:
        image_size: Resizes them to (height, width) pixels; None keeps their sizes.
        background: The colour that shows through transparent pixels, by its CSS name or as
            ``#rrggbb``.
    """

    image_size: tuple[int, int] | None = None
    background: str = "white"

    def __post_init__(self) -> None:
        try:
            ImageColor.getrgb(self.background)
        except ValueError:
            raise InputError(
                f"`background` {self.background!r} is no colour: write a name such as white or "
                "black, or #rrggbb"
            ) from None

    def read(self, path: Path) -> Picture:
        """Returns the picture in a file.

        Raises:
            InputError: If it cannot be decoded; the message names the file.
        """
        if _format(path) in _PROGRAMS:
            raise InputError(
                f"cannot read image {path}: Pillow reads {path.suffix} by running other programs; "
                "convert it to PNG, or delete it"
            )
        return self._guarded(str(path), lambda: self._opened(path))

    def convert(self, image: Image.Image, name: str) -> Picture:
        """Returns an opened picture.

        Args:
            image: The picture.
            name: What the message calls it.

        Raises:
            InputError: If it cannot be decoded.
        """
        return self._guarded(name, lambda: self._decoded(image))

    def _guarded(self, name: str, decoded: Callable[[], Picture]) -> Picture:
        # Pillow's readers answer damaged files with errors of nearly any type.
        try:
            return decoded()
        except InputError as error:
            raise InputError(f"cannot read image {name}: {error}") from None
        except Exception as error:
            raise InputError(
                f"cannot read image {name}: {error or type(error).__name__}; replace or delete it"
            ) from None

    def _opened(self, path: Path) -> Picture:
        with Image.open(regular_file(path), formats=_formats()) as image:
            return self._decoded(image)

    def _decoded(self, image: Image.Image) -> Picture:
        if 0 in image.size:
            raise InputError("it has no pixels; replace or delete it")
        changes = []
        if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":  # phones add previews
            changes.append("reduced to their first frame")
        deep = image.mode.startswith(("I", "F"))
        if not deep and any(";16" in str(tile[3]) for tile in getattr(image, "tile", ())):
            changes.append("reduced from 16 bits per channel to 8")
        if image.getexif().get(_ORIENTATION, 1) != 1:
            changes.append("turned upright as their orientation says")
            image = ImageOps.exif_transpose(image)
        if deep:
            return Picture(self._resized(_deep(image)), tuple(changes))
        if image.mode in ("CMYK", "LAB", "YCbCr", "HSV"):
            changes.append(f"converted from {image.mode}")
        if image.has_transparency_data:
            image, shows = self._composed(image)
            changes += [f"laid on a {self.background} background"] * shows
        return Picture(self._resized(_flat(image)), tuple(changes))

    def _composed(self, image: Image.Image) -> tuple[Image.Image, bool]:
        """Returns a picture on the background, and whether that shows through."""
        grey = image.mode in ("1", "L", "LA", "La")
        layered = image.convert("LA" if grey else "RGBA")
        opacity = layered.getchannel("A")
        base = Image.new("RGB", image.size, self.background).convert("L" if grey else "RGB")
        base.paste(layered.convert(base.mode), mask=opacity)
        return base, opacity.getextrema() != (255, 255)

    def _resized(self, image: Image.Image) -> np.ndarray:
        if self.image_size is not None:
            height, width = self.image_size
            image = image.resize((width, height), Image.Resampling.BILINEAR)
        array = np.asarray(image)
        return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def changes_note(changes: Counter[str]) -> list[str]:
    """Returns the parts of a sentence that tell how many pictures were changed."""
    return [f"{number_of(count, 'picture', 'were')} {change}" for change, count in changes.items()]


def stacked(arrays: Sequence[np.ndarray], names: Sequence[object]) -> Tensor:
    """Returns images (N, C, H, W), with C = 1 if all of them are grey and 3 otherwise.

    Args:
        arrays: The images (C, H, W).
        names: What messages call them.

    Raises:
        InputError: If they differ in size or type.
    """
    sizes = ["x".join(map(str, array.shape[1:])) for array in arrays]
    _check_alike(sizes, names, "pass `image_size` to resize them")
    _check_alike([str(array.dtype) for array in arrays], names, "convert all of them to one type")
    channels = max(array.shape[0] for array in arrays)
    images = np.empty((len(arrays), channels, *arrays[0].shape[1:]), dtype=arrays[0].dtype)
    for i, array in enumerate(arrays):
        images[i] = array  # broadcasts a grey image over three channels
    return torch.from_numpy(images)


def _check_alike(found: Sequence[str], names: Sequence[object], way: str) -> None:
    for one, name in zip(found, names, strict=True):
        if one != found[0]:
            raise InputError(f"images differ: {names[0]} is {found[0]} and {name} is {one}; {way}")


def is_picture(path: Path) -> bool:
    """Returns whether a file is a picture by its name."""
    return _format(path) in {*_formats(), *_PROGRAMS}


def _format(path: Path) -> str | None:
    return Image.registered_extensions().get(path.suffix.lower())


def _formats() -> list[str]:
    Image.init()
    return [name for name in Image.OPEN if name not in _PROGRAMS | _UNREADABLE]


def _flat(image: Image.Image) -> Image.Image:
    """Returns a picture of 8 bits in the mode L or RGB."""
    if image.mode in ("1", "L", "LA", "La"):
        return image.convert("L")
    colour = image.convert("RGB")
    if image.mode not in ("P", "PA"):
        return colour
    red, green, blue = colour.split()
    return red if red == green == blue else colour  # a palette of greys


def _deep(image: Image.Image) -> Image.Image:
    """Returns a grey picture of more than 8 bits in the mode F."""
    levels = np.asarray(image).astype(np.float32)
    if not np.isfinite(levels).all():
        raise InputError("it contains NaN or infinite values; replace or delete it")
    if image.mode == "F" or (image.mode == "I" and image.format not in ("PNG", "PPM")):
        return Image.fromarray(levels)
    tags = getattr(image, "tag_v2", {})  # of TIFF, which also has 12 bits
    (bits,) = tags.get(_BITS_PER_SAMPLE, (16,))
    return Image.fromarray(levels / np.float32(2**bits - 1))

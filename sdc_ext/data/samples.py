"""Reads images and labels from tensors, torch data sets and Hugging Face data sets."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sdc_ext.data.pictures import Decoding, Picture, stacked
from sdc_ext.errors import InputError

_KINDS = (
    "the name of a data set, a folder, a torch Dataset, a Hugging Face Dataset, or a pair of "
    "tensors (images, labels)"
)


@dataclass(frozen=True)
class Samples:
    """Images with labels.

    Attributes:
        images: Images (N, C, H, W), uint8 or float32 in [0, 1].
        labels: Labels (N,), int64.
        classes: A name for each label; None if the source has no names.
        changes: The numbers of pictures that were changed, by what was done to them.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...] | None
    changes: Counter[str] = field(default_factory=Counter)


def read_samples(source: Any, decoding: Decoding) -> Samples:
    """Reads all images and labels of a source.

    Args:
        source: A pair of tensors or arrays (images, labels), a Hugging Face ``Dataset``, or a
            torch ``Dataset`` of (image, label).
        decoding: How pictures become pixels.

    Raises:
        InputError: See [`load_data`][sdc_ext.data.load_data].
    """
    if isinstance(source, tuple | list):
        samples = _of_tensors(source, decoding)
    elif not (hasattr(source, "__getitem__") and hasattr(source, "__len__")):
        streamed = hasattr(source, "__iter__")
        way = (
            "pass a data set that has a length and is not streamed"
            if streamed
            else f"pass {_KINDS}"
        )
        raise InputError(f"cannot read images and labels from a {type(source).__name__}: {way}")
    elif hasattr(source, "features") and hasattr(source, "column_names"):
        samples = _of_hugging_face(source, decoding)
    else:
        classes = getattr(source, "classes", None)  # in some data sets it is their number
        names = classes if isinstance(classes, Iterable) else None
        samples = _of_items(_pairs(source), names, decoding)
    _check_pixels(samples.images)
    return samples


def _of_tensors(pair: Sequence[Any], decoding: Decoding) -> Samples:
    if len(pair) != 2 or not all(isinstance(part, Tensor | np.ndarray) for part in pair):
        kinds = ", ".join(type(part).__name__ for part in pair)
        raise InputError(
            f"cannot read images and labels from ({kinds}): pass a pair of tensors (images, "
            "labels), and a test set as test=..."
        )
    images, labels = map(_tensor, pair, ("images", "labels"))
    if images.ndim != 4 or images.shape[1] not in (1, 3) or 0 in images.shape[2:]:
        raise InputError(
            f"images have the shape {tuple(images.shape)}: pass (N, C, H, W) with 1 or 3 channels "
            "and no side of 0"
        )
    if labels.shape != images.shape[:1] or not _is_whole(labels.dtype):
        raise InputError(
            f"labels have the shape {tuple(labels.shape)} and type {_name(labels.dtype)}: pass one "
            f"integer for each of the {len(images)} images"
        )
    if len(images) == 0:
        raise InputError("the data set is empty: pass one with images")
    if decoding.image_size is not None:
        return _of_items(zip(images, labels, strict=True), None, decoding)
    return Samples(_as_stored(images), labels.long(), None)


def _of_hugging_face(source: Any, decoding: Decoding) -> Samples:
    features: Mapping[str, Any] = source.features or {}
    image, label = (_column(features, kind) for kind in ("Image", "ClassLabel"))
    rows = (source[i] for i in range(len(source)))
    pairs = ((row[image], row[label]) for row in rows)
    return _of_items(pairs, features[label].names, decoding)


def _column(features: Mapping[str, Any], kind: str) -> str:
    """Returns the only column with this kind of feature.

    The kind is compared by its name, so that ``datasets`` need not be installed.
    """
    found = [name for name, feature in features.items() if type(feature).__name__ == kind]
    if len(found) != 1:
        raise InputError(
            f"a Hugging Face data set needs exactly one {kind} column, but {len(found)} of its "
            f"columns ({', '.join(features) or 'none'}) are of that kind: cast, select or remove "
            "columns"
        )
    return found[0]


def _pairs(source: Any) -> Iterable[tuple[Any, Any]]:
    for i in range(len(source)):
        item = source[i]
        if not (isinstance(item, tuple | list) and len(item) == 2):
            raise InputError(
                f"item {i} of the data set is a {type(item).__name__}: pass a data set of pairs "
                "(image, label)"
            )
        yield item[0], item[1]


def _of_items(
    pairs: Iterable[tuple[Any, Any]],
    classes: Iterable[Any] | None,
    decoding: Decoding,
) -> Samples:
    pictures: list[Picture] = []
    labels: list[int] = []
    for i, (image, label) in enumerate(pairs):
        pictures.append(_picture(image, i, decoding))
        labels.append(_label(label, i))
    if not pictures:
        raise InputError("the data set is empty: pass one with images")
    names = None if classes is None else tuple(map(str, classes))
    called = [f"image {i}" for i in range(len(pictures))]
    images = stacked([picture.array for picture in pictures], called)
    changes = Counter(change for picture in pictures for change in picture.changes)
    return Samples(images, torch.tensor(labels), names, changes)


def _picture(image: Any, i: int, decoding: Decoding) -> Picture:
    """Returns image number ``i`` as uint8 or float32 (C, H, W)."""
    if isinstance(image, Image.Image):
        return decoding.convert(image, str(i))
    if isinstance(image, np.ndarray) and image.ndim == 3 and image.shape[2] in (1, 3):
        image = image.transpose(2, 0, 1)  # arrays have channels last by convention
    if not isinstance(image, Tensor | np.ndarray):
        raise InputError(
            f"image {i} is a {type(image).__name__}: pass PIL images, tensors (C, H, W) or arrays "
            "(H, W, C)"
        )
    tensor = _tensor(image, "images")
    tensor = tensor[None] if tensor.ndim == 2 else tensor
    if tensor.ndim != 3 or tensor.shape[0] not in (1, 3) or 0 in tensor.shape:
        raise InputError(
            f"image {i} has the shape {tuple(tensor.shape)}: pass (C, H, W) with 1 or 3 channels, "
            "or (H, W), and no side of 0"
        )
    array: np.ndarray = _as_stored(tensor).numpy()
    size = decoding.image_size
    return Picture(array if size is None else _resize(array, size))


def _tensor(values: Tensor | np.ndarray, what: str) -> Tensor:
    """Returns a tensor on the CPU.

    Torch takes neither other byte orders nor flipped arrays, and warns of those that are read-only.
    """
    if isinstance(values, Tensor):
        return values.detach().cpu()
    try:
        return torch.from_numpy(np.require(values, values.dtype.newbyteorder("="), ("C", "W")))
    except (TypeError, ValueError):
        raise InputError(f"{what} have the type {values.dtype}: pass numbers") from None


def _resize(array: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """Resizes an image (C, H, W) as ``Decoding`` does, at any precision."""
    size = image_size[1], image_size[0]
    channels = (Image.fromarray(np.ascontiguousarray(channel)) for channel in array)
    return np.stack([np.asarray(c.resize(size, Image.Resampling.BILINEAR)) for c in channels])


def _label(label: Any, i: int) -> int:
    try:
        return operator.index(label)
    except (TypeError, ValueError):
        raise InputError(
            f"label {label!r} of image {i} is not an integer: pass the index of its class"
        ) from None


def _as_stored(images: Tensor) -> Tensor:
    """Returns images as they are stored: uint8, or float32 and finite."""
    if images.dtype == torch.uint8:
        return images
    if not images.is_floating_point():
        raise InputError(
            f"images have the type {_name(images.dtype)}: pass uint8, or floats in [0, 1]"
        )
    stored = images.float()
    if not bool(stored.isfinite().all()):
        raise InputError("images contain NaN or infinite values: pass pixels in [0, 1] or uint8")
    return stored


def _check_pixels(images: Tensor) -> None:
    if images.dtype == torch.uint8:
        return
    low, high = float(images.min()), float(images.max())
    if low < 0 or high > 1:
        raise InputError(
            f"images range from {low:.3g} to {high:.3g}, so they look normalised already: pass "
            "pixels in [0, 1] or uint8"
        )


def _is_whole(dtype: torch.dtype) -> bool:
    return not (dtype.is_floating_point or dtype.is_complex or dtype == torch.bool)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")

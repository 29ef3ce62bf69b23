"""Whitens images by ZCA, fitted by kornia or from a few images, and cached on disk."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_safetensors
from torch import Tensor

from sdc_ext._files import fingerprint, write_whole
from sdc_ext._memory import available_memory
from sdc_ext._words import number_of
from sdc_ext.errors import InputError

# Added to the covariance's eigenvalues; the same value as in the original repositories.
EPS = 0.1

# A longer fit is announced.
_LONG_IN_SECONDS = 10

_LOG = logging.getLogger(__name__)


class Whitening:
    """ZCA whitening: ``white = (pixels - mean) @ transform`` on flattened images.

    Images that are fewer than their pixel values vary in as few directions. The matrix is then
    ``I / sqrt(eps)`` but for these directions, so that only they are kept.

    Args:
        tensors: The mean image ``mean`` (1, D), with D = C * H * W; and either the whitening matrix
            ``transform`` and its inverse ``inverse`` (D, D), or the orthonormal directions
            ``basis`` (R, D) and the ``variances`` along them (R,).
        fingerprint: The fingerprint of the images that the whitening was fitted to.

    Reference: the code of MTT, TESLA, FTD and DATM, which use kornia's ``ZCAWhitening`` with eps
    0.1 on pixels in [0, 1].
    """

    def __init__(self, tensors: Mapping[str, Tensor], fingerprint: str) -> None:
        self.fingerprint = fingerprint
        self._tensors = {tensors["mean"].device: dict(tensors)}

    @classmethod
    def fit(cls, pixels: Tensor) -> Whitening:
        """Fits the whitening to images (N, C, H, W) in [0, 1].

        It decomposes a D x D matrix, or the N x D images if there are fewer of them. A fit that
        takes long is announced with an estimate of its time.

        Raises:
            InputError: If it needs more memory than there is.
        """
        _check_cost(pixels)
        fitted = _fit_few(pixels) if len(pixels) < pixels[0].numel() else _fit_many(pixels)
        return cls(fitted, fingerprint(pixels))

    @classmethod
    def fit_once(cls, pixels: Tensor) -> Whitening:
        """Reads the whitening of images from the user's cache folder, or fits and caches it.

        Where the folder cannot be written to, the whitening is fitted each time.
        """
        name = fingerprint(pixels)
        kept = _read(name)
        if kept is not None:
            return cls(kept, name)
        fitted = cls.fit(pixels)
        _keep(name, fitted._on(pixels.device))
        return fitted

    def apply(self, pixels: Tensor) -> Tensor:
        """Whitens images (B, C, H, W)."""
        tensors = self._on(pixels.device)
        centred = pixels.flatten(1) - tensors["mean"]
        if "transform" in tensors:
            return (centred @ tensors["transform"]).view_as(pixels)
        return _stretched(centred, tensors, -0.5).view_as(pixels)

    def undo(self, images: Tensor) -> Tensor:
        """Returns the pixels of whitened images (B, C, H, W), not clipped to [0, 1]."""
        tensors = self._on(images.device)
        white = images.flatten(1)
        if "inverse" in tensors:
            centred = white @ tensors["inverse"]
        else:
            centred = _stretched(white, tensors, 0.5)
        return (centred + tensors["mean"]).view_as(images)

    def _on(self, device: torch.device) -> dict[str, Tensor]:
        if device not in self._tensors:
            first = next(iter(self._tensors.values()))
            self._tensors[device] = {name: t.to(device) for name, t in first.items()}
        return self._tensors[device]


def _fit_many(pixels: Tensor) -> dict[str, Tensor]:
    from kornia.enhance import ZCAWhitening

    zca = ZCAWhitening(eps=EPS, compute_inv=True).fit(pixels)
    fitted = {
        "mean": zca.mean_vector,
        "transform": zca.transform_matrix,
        "inverse": zca.transform_inv,
    }
    return {name: t.detach() for name, t in fitted.items()}


def _fit_few(pixels: Tensor) -> dict[str, Tensor]:
    flat = pixels.flatten(1).double()  # in float32 the directions would be ten times less exact
    mean = flat.mean(0, keepdim=True)
    _, spread, basis = torch.linalg.svd(flat - mean, full_matrices=False)
    variances = spread.square() / max(len(flat) - 1, 1)
    fitted = {"mean": mean, "basis": basis, "variances": variances}
    return {name: t.to(pixels.dtype) for name, t in fitted.items()}


def _stretched(flat: Tensor, tensors: Mapping[str, Tensor], power: float) -> Tensor:
    """Multiplies images (B, D) by the covariance plus eps, to a power."""
    basis = tensors["basis"]
    gains = (tensors["variances"] + EPS) ** power - EPS**power
    stretched: Tensor = EPS**power * flat + ((flat @ basis.T) * gains) @ basis
    return stretched


def _check_cost(pixels: Tensor) -> None:
    """Announces a long fit, and raises InputError if the memory is not enough for it."""
    count, size = len(pixels), pixels[0].numel()
    # Measured on two CPU cores, with images of 432 to 49,152 values.
    if count < size:
        seconds, needed = 3e-9 * count**2 * size, 64 * count * size
    else:
        seconds, needed = 2e-9 * size**3, 64 * size**2 + 8 * count * size
    available = available_memory()
    shape = "x".join(map(str, pixels.shape[1:]))
    if needed > available:
        raise InputError(
            f"ZCA whitening of {number_of(count, 'image')} of {shape} needs about "
            f"{needed / 1e9:.0f} GB of memory, and {available / 1e9:.0f} GB are available: make "
            "them smaller by `image_size`, or pass `zca=False`"
        )
    if seconds > _LONG_IN_SECONDS:
        _LOG.warning(
            "fitting the ZCA whitening of %d images of %s takes about %s and %.1f GB of memory",
            count,
            shape,
            f"{seconds / 60:.0f} minutes" if seconds > 100 else f"{seconds:.0f} seconds",
            needed / 1e9,
        )


def _cache_path(name: str) -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "sdc_ext" / f"zca-{name}.safetensors"


def _read(name: str) -> dict[str, Tensor] | None:
    """Returns the tensors of a whitening in the cache; None without it, or if it is damaged."""
    try:
        tensors: dict[str, Tensor] = load_file(_cache_path(name))
    except (OSError, RuntimeError, SafetensorError):  # RuntimeError: there is no home
        return None
    complete = ({"mean", "transform", "inverse"}, {"mean", "basis", "variances"})
    return tensors if set(tensors) in complete else None


def _keep(name: str, tensors: Mapping[str, Tensor]) -> None:
    """Writes a whitening to the cache; says so if it cannot be kept there."""
    content = to_safetensors({key: t.contiguous() for key, t in tensors.items()})
    try:
        write_whole(_cache_path(name), lambda temporary: temporary.write_bytes(content))
    except (OSError, RuntimeError, InputError) as error:
        _LOG.warning(
            "the ZCA whitening was not kept for the next time (%s): set XDG_CACHE_HOME to a "
            "folder that can be written to",
            error,
        )

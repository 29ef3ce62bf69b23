"""Whitens images by ZCA, fitted by kornia and cached on disk."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_safetensors
from torch import Tensor

from sdc_ext._files import fingerprint, write_whole

# Added to the covariance's eigenvalues; the same value as in the original repositories.
_EPS = 0.1


class Whitening:
    """ZCA whitening: ``white = (pixels - mean) @ transform`` on flattened images.

    Args:
        mean: The mean image (1, D), with D = C * H * W.
        transform: The whitening matrix (D, D).
        inverse: The matrix (D, D) that undoes it.
        fingerprint: The fingerprint of the images that the whitening was fitted to.

    Reference: the code of MTT, TESLA, FTD and DATM, which use kornia's ``ZCAWhitening`` with eps
    0.1 on pixels in [0, 1].
    """

    def __init__(self, mean: Tensor, transform: Tensor, inverse: Tensor, fingerprint: str) -> None:
        self.fingerprint = fingerprint
        self._tensors = {mean.device: (mean, transform, inverse)}

    @classmethod
    def fit(cls, pixels: Tensor) -> Whitening:
        """Fits the whitening to images (N, C, H, W) in [0, 1].

        It decomposes a D x D matrix, which takes about a minute for colour images of 32x32
        pixels. For 64x64 pixels, each of the matrices takes 600 MB.
        """
        from kornia.enhance import ZCAWhitening

        zca = ZCAWhitening(eps=_EPS, compute_inv=True).fit(pixels)
        tensors = (zca.mean_vector, zca.transform_matrix, zca.transform_inv)
        mean, transform, inverse = (t.detach() for t in tensors)
        return cls(mean, transform, inverse, fingerprint(pixels))

    @classmethod
    def fit_once(cls, pixels: Tensor) -> Whitening:
        """Reads the whitening of images from the user's cache folder, or fits and caches it."""
        name = fingerprint(pixels)
        path = _cache_folder() / f"zca-{name}.safetensors"
        try:
            return cls(**load_file(path), fingerprint=name)
        except (FileNotFoundError, SafetensorError, TypeError):  # none yet, or damaged
            pass
        fitted = cls.fit(pixels)
        mean, transform, inverse = fitted._on(pixels.device)
        tensors = {"mean": mean, "transform": transform, "inverse": inverse}
        content = to_safetensors({name: t.contiguous() for name, t in tensors.items()})
        write_whole(path, lambda temporary: temporary.write_bytes(content))
        return fitted

    def apply(self, pixels: Tensor) -> Tensor:
        """Whitens images (B, C, H, W)."""
        mean, transform, _ = self._on(pixels.device)
        return ((pixels.flatten(1) - mean) @ transform).view_as(pixels)

    def undo(self, images: Tensor) -> Tensor:
        """Returns the pixels of whitened images (B, C, H, W), not clipped to [0, 1]."""
        mean, _, inverse = self._on(images.device)
        return (images.flatten(1) @ inverse + mean).view_as(images)

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        if device not in self._tensors:
            first = next(iter(self._tensors.values()))
            mean, transform, inverse = (t.to(device) for t in first)
            self._tensors[device] = (mean, transform, inverse)
        return self._tensors[device]


def _cache_folder() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "sdc_ext"

"""ZCA whitening of images, fitted by kornia and kept on disk."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_safetensors
from torch import Tensor

from sdc_ext._files import fingerprint, write_whole

# Added to the covariance's eigenvalues, as in the originals.
_EPS = 0.1


class Whitening:
    """``white = (pixels - mean) @ transform`` on flattened images, and back.

    Args:
        mean: (1, D), D = C * H * W.
        transform: (D, D).
        inverse: (D, D).
        fingerprint: of the images that it was fitted to.

    Reference: the originals of MTT, TESLA, FTD and DATM, which use kornia's ``ZCAWhitening``
    with eps 0.1 on pixels in [0, 1].
    """

    def __init__(self, mean: Tensor, transform: Tensor, inverse: Tensor, fingerprint: str) -> None:
        self.fingerprint = fingerprint
        self._tensors = {mean.device: (mean, transform, inverse)}

    @classmethod
    def fit(cls, pixels: Tensor) -> Whitening:
        """Fits to images (N, C, H, W) in [0, 1].

        It decomposes a D x D matrix: a minute for 32x32 colour images; for 64x64 its tensors take
        600 MB each.
        """
        from kornia.enhance import ZCAWhitening

        zca = ZCAWhitening(eps=_EPS, compute_inv=True).fit(pixels)
        tensors = (zca.mean_vector, zca.transform_matrix, zca.transform_inv)
        mean, transform, inverse = (t.detach() for t in tensors)
        return cls(mean, transform, inverse, fingerprint(pixels))

    @classmethod
    def fit_once(cls, pixels: Tensor) -> Whitening:
        """As ``fit``, kept in the user's cache folder for the next time."""
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
        """Pixels of whitened images (B, C, H, W), not clipped."""
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

"""Writing files whole or not at all, and telling data apart."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from torch import Tensor


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Lets ``write`` fill a temporary file beside ``path``, then renames it to ``path``.

    The temporary file keeps the suffix, so that writers which go by it still work.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def fingerprint(*tensors: Tensor) -> str:
    """A short text that differs, in all likelihood, between any two data."""
    digest = hashlib.sha256()
    for tensor in tensors:
        content = tensor.detach().cpu().contiguous().numpy()
        digest.update(f"{content.shape} {content.dtype}".encode())
        digest.update(content.data)
    return digest.hexdigest()[:16]

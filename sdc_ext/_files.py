"""Writing files whole or not at all, and telling data apart."""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

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


def write_table(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Writes rows with the same columns, at least one, as CSV, whole."""

    def write(temporary: Path) -> None:
        with temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    write_whole(path, write)


def fingerprint(*tensors: Tensor) -> str:
    """A short text that differs, in all likelihood, between any two data."""
    digest = hashlib.sha256()
    for tensor in tensors:
        content = tensor.detach().cpu().contiguous().numpy()
        digest.update(f"{content.shape} {content.dtype}".encode())
        digest.update(content.data)
    return digest.hexdigest()[:16]

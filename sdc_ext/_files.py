"""Writes files whole or not at all, and computes fingerprints of data."""

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

    The temporary file keeps the suffix, since some writers choose the format by it.

    Args:
        path: The file to write; missing parent folders are created.
        write: Writes the content to the path that it is given.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_table(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Writes rows (at least one, all with the same columns) as CSV, whole or not at all."""

    def write(temporary: Path) -> None:
        with temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    write_whole(path, write)


def fingerprint(*tensors: Tensor) -> str:
    """Returns 16 hexadecimal digits that almost certainly differ for different tensors."""
    digest = hashlib.sha256()
    for tensor in tensors:
        content = tensor.detach().cpu().contiguous().numpy()
        digest.update(f"{content.shape} {content.dtype}".encode())
        digest.update(content.data)
    return digest.hexdigest()[:16]

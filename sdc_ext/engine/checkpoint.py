"""Saving the record of a run to disk, and restoring it."""

from __future__ import annotations

import time
import zipfile
from pathlib import Path
from typing import Any

import torch

from sdc_ext._files import as_tensors, write_files
from sdc_ext._text import first_line
from sdc_ext.engine.record import Record
from sdc_ext.engine.run_folder import RunFolder
from sdc_ext.errors import InputError
from sdc_ext.sets.synthetic_set import RUN

CHECKPOINT = "checkpoint.pt"


class Checkpoint:
    """Saves a record on demand and about once a minute, and restores it.

    Accelerate's ``save_state`` is not used, because it restores by unpickling, which can execute
    code from a file. The random states that it saves are not needed either, since every iteration
    is seeded separately.

    Args:
        record: The record to save and to restore into.
        folder: The folder of the run.
        device: The device to which tensors are restored.
    """

    _SECONDS_BETWEEN = 60.0

    def __init__(self, record: Record, folder: RunFolder, device: torch.device) -> None:
        self._record = record
        self._folder = folder
        self._device = device
        self._saved_at = time.monotonic()

    def save(self) -> None:
        """Replaces the checkpoint on disk."""
        content = as_tensors(self._record.state_dict())
        write_files(self._folder.path, {RUN: self._folder.write, CHECKPOINT: content})
        self._saved_at = time.monotonic()

    def save_now_and_then(self) -> None:
        """Saves if a minute has passed since the last save."""
        if time.monotonic() - self._saved_at > self._SECONDS_BETWEEN:
            self.save()

    def restore(self) -> bool:
        """Loads the checkpoint into the record.

        Returns:
            Whether there was a checkpoint.

        Raises:
            InputError: If the file is damaged, or holds something else.
        """
        path = self._folder.path / CHECKPOINT
        if not path.is_file():
            return False
        try:
            self._record.load_state_dict(self._load(path))
        # torch reports damage by many types of exception, and advises an unsafe way out.
        except Exception as error:
            raise InputError(
                f"the checkpoint {path} is damaged ({first_line(error)}), so the run cannot "
                "continue: choose another `out`; the last set that was saved is still there"
            ) from error
        return True

    def _load(self, path: Path) -> dict[str, Any]:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch reads without comparing the checksums
        if damaged is not None:
            raise ValueError(f"wrong checksum of {damaged}")
        # Accelerate calls the CPU of a group of processes cpu:0, which torch cannot restore to.
        device = "cpu" if self._device.type == "cpu" else self._device
        saved: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        return saved

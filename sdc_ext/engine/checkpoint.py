"""Saving the record of a run to disk, and restoring it."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from sdc_ext._files import write_whole
from sdc_ext.engine.record import Record
from sdc_ext.errors import InputError

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

    def __init__(self, record: Record, folder: Path, device: torch.device) -> None:
        self._record = record
        self._path = folder / CHECKPOINT
        self._device = device
        self._saved_at = time.monotonic()

    def save(self) -> None:
        """Replaces the checkpoint on disk."""
        write_whole(self._path, lambda path: torch.save(self._record.state_dict(), path))
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
            InputError: If the file is damaged.
        """
        if not self._path.is_file():
            return False
        try:
            saved = torch.load(self._path, map_location=self._device, weights_only=True)
            self._record.load_state_dict(saved)
        # torch reports damage by many types of exception, and advises an unsafe way out.
        except Exception as error:
            raise InputError(
                f"the checkpoint {self._path} is damaged, so the run cannot continue: choose "
                "another `out`; the last set that was saved is still there"
            ) from error
        return True

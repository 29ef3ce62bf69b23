"""A run's checkpoint on disk."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from sdc_ext._files import write_whole
from sdc_ext.engine.record import Record
from sdc_ext.errors import InputError

CHECKPOINT = "checkpoint.pt"


class Checkpoint:
    """Saves a record every minute and on demand, and restores it.

    Not Accelerate's ``save_state``: it restores by unpickling, which executes what a file says,
    and its random states are not needed, since every iteration is seeded on its own.
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
        """Saves if a minute has passed."""
        if time.monotonic() - self._saved_at > self._SECONDS_BETWEEN:
            self.save()

    def restore(self) -> bool:
        """Loads what was saved into the record; False if nothing was.

        Raises:
            InputError: if the file is damaged.
        """
        if not self._path.is_file():
            return False
        try:
            saved = torch.load(self._path, map_location=self._device, weights_only=True)
            self._record.load_state_dict(saved)
        except Exception as error:  # torch reports damage in many ways, and advises what is unsafe
            raise InputError(
                f"the checkpoint {self._path} is damaged, and the run cannot go on: choose another "
                "--out; the last set that was saved is still there"
            ) from error
        return True

"""What a loop has captured and no backward pass has used yet."""

from __future__ import annotations

from typing import TypeVar

_T = TypeVar("_T")


class Waiting(list[_T]):
    """Captured gradients, or calls of networks, that wait for a backward pass.

    Once it is likely that no loss comes for them, they are late: losses of further classes may
    still use them, each with an image step of its own, until the next one is captured.

    Attributes:
        are_late: Whether the next capture means that no loss comes for these.
    """

    are_late = False

    def release(self) -> None:
        """Lets go of all with the next capture."""
        self.are_late = True

    def drop(self) -> None:
        """Forgets all."""
        self.clear()
        self.are_late = False

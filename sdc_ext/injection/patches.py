"""Replacing attributes of other people's modules and classes, and putting them back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Patches:
    """Replaced attributes, which ``undo`` restores in reverse order."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []

    def wrap(self, owner: Any, name: str, wrapper: Callable[[Any], Any]) -> None:
        """Sets ``owner.name`` to ``wrapper(what it was)``."""
        original = getattr(owner, name)
        if name in vars(owner):
            self._undo.append(lambda: setattr(owner, name, original))
        else:  # inherited
            self._undo.append(lambda: delattr(owner, name))
        setattr(owner, name, wrapper(original))

    def add(self, undo: Callable[[], None]) -> None:
        """Notes what else ``undo`` has to call."""
        self._undo.append(undo)

    def undo(self) -> None:
        """Puts everything back."""
        while self._undo:
            self._undo.pop()()

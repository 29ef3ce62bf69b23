"""Replaces attributes of other libraries' modules and classes, and restores them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Patches:
    """Replaced attributes, which ``undo`` restores in reverse order."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []

    def wrap(self, owner: Any, name: str, wrapper: Callable[[Any], Any]) -> None:
        """Sets the attribute ``name`` of ``owner`` to ``wrapper(its present value)``."""
        original = getattr(owner, name)
        if name in vars(owner):
            self._undo.append(lambda: setattr(owner, name, original))
        else:  # inherited
            self._undo.append(lambda: delattr(owner, name))
        setattr(owner, name, wrapper(original))

    def add(self, undo: Callable[[], None]) -> None:
        """Adds a function that ``undo`` calls, too."""
        self._undo.append(undo)

    def undo(self) -> None:
        """Restores everything."""
        while self._undo:
            self._undo.pop()()

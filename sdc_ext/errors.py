"""Errors that a user can act on, and checks whose messages say what to do."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

# The most characters of a bad value that a message repeats.
MOST_SHOWN = 60


class InputError(ValueError):
    """Bad input; the message names the value, what is allowed, and what to do."""


class DivergenceError(RuntimeError):
    """A loss, gradient or parameter became NaN or infinite.

    ``distill`` and ``sdc-ext run`` save the last good images before they stop with this error.

    Args:
        message: What diverged, and what to do.
        saved: The folder of the last good set. The text names it for as long as it is there: some
            runs are in temporary folders.
    """

    def __init__(self, message: str, saved: Path | None = None) -> None:
        super().__init__(message)
        self._saved = saved

    def __str__(self) -> str:
        is_kept = self._saved is not None and self._saved.is_dir()
        return super().__str__() + (f"; the last good set is in {self._saved}" if is_kept else "")


def check_choice(
    what: str, value: str, choices: Iterable[str], *, listed: Iterable[str] | None = None
) -> str:
    """Returns ``value`` if it is one of ``choices``.

    Raises:
        InputError: If it is not. The message suggests the nearest choice and lists all choices,
            or ``listed`` where it is given.
    """
    known = sorted(choices)
    if value in known:
        return value
    text = str(value)
    near = get_close_matches(text.lower(), known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    names = ", ".join(known if listed is None else listed)
    said = repr(value) if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]!r}..."
    raise InputError(f"unknown {what} {said}: {hint}choose from {names}")


class InjectionError(InputError):
    """A script does not behave as its profile says; the message names the profile to use."""

"""Errors that a user can act on, and the sentence that helps."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """Bad input: the message names the value, what is allowed and what to do."""


class DivergenceError(RuntimeError):
    """A loss became NaN or infinite; what was good has been saved."""


def check_choice(what: str, value: str, choices: Iterable[str]) -> str:
    """Returns ``value`` if it is one of ``choices``.

    Raises:
        InputError: otherwise; names the nearest choice and lists them all.
    """
    known = sorted(choices)
    if value in known:
        return value
    near = get_close_matches(value.lower(), known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise InputError(f"unknown {what} {value!r}: {hint}choose from {', '.join(known)}")

"""Reads JSON that strangers or earlier versions have written into types that describe it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from sdc_ext._reading import content_of
from sdc_ext.errors import InputError

_T = TypeVar("_T")

# No description of ours is nested as deeply, and Python's recursion allows a thousand levels.
_DEEPEST = 50

# Larger numbers are of no use, and fail where they become floating point.
_LARGEST = 2**64

_AT_FIELD = re.compile(r"(?P<what>.*) - at `\$\.?(?P<field>.*)`")


def read_json(path: Path, kind: type[_T], advice: str) -> _T:
    """Reads a JSON file; see ``from_json``."""
    return from_json(content_of(path), kind, str(path), advice)


def from_json(content: str | bytes, kind: type[_T], name: str, advice: str) -> _T:
    """Reads JSON into a type: a dataclass, or containers and numbers.

    Args:
        content: The text.
        kind: The type that describes it. Numbers are finite, since JSON has no others, and whole
            numbers have at most 64 bits.
        name: What messages call the text, e.g. its path.
        advice: What the user can do if it is not of this type.

    Raises:
        InputError: If it is not; the message names the field and what was expected.
    """
    try:
        plain = msgspec.json.decode(content)
        _check_plain(plain)
        return msgspec.convert(plain, kind)
    except (msgspec.MsgspecError, UnicodeError, OverflowError, RecursionError) as error:
        raise InputError(f"{name} is damaged ({_problem(error)}): {advice}") from None


def as_kind(value: Any, kind: type[_T], name: str, advice: str) -> _T:
    """Converts plain values, e.g. those of decoded JSON, into a type; see ``from_json``."""
    try:
        return msgspec.convert(value, kind)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InputError(f"{name} is damaged ({_problem(error)}): {advice}") from None


def _check_plain(value: Any, depth: int = 0) -> None:
    """Raises an error for what is nested too deeply, and for numbers that are too large."""
    if depth > _DEEPEST:
        raise RecursionError
    if isinstance(value, int) and abs(value) > _LARGEST:
        raise OverflowError("a whole number has more than 64 bits")
    if isinstance(value, (dict, list)):
        for inner in value.values() if isinstance(value, dict) else value:
            _check_plain(inner, depth + 1)


def _problem(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    found = _AT_FIELD.fullmatch(str(error))
    text = str(error) if found is None else f"{found['field']}: {found['what']}"
    return text.replace("`", "")

"""Reads JSON that strangers or earlier versions have written into types that describe it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, TypeVar

from sdc_ext._reading import regular_file
from sdc_ext.errors import InputError

_T = TypeVar("_T")

_AT_FIELD = re.compile(r"(?P<what>.*) - at `\$\.?(?P<field>.*)`")


def read_json(path: Path, kind: type[_T], advice: str) -> _T:
    """Reads a JSON file; see ``from_json``."""
    return from_json(regular_file(path).read_bytes(), kind, str(path), advice)


def from_json(content: str | bytes, kind: type[_T], name: str, advice: str) -> _T:
    """Reads JSON into a type: a dataclass, or containers and numbers.

    Args:
        content: The text.
        kind: The type that describes it. Numbers are finite, since JSON has no others.
        name: What messages call the text, e.g. its path.
        advice: What the user can do if it is not of this type.

    Raises:
        InputError: If it is not; the message names the field and what was expected.
    """
    import msgspec

    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise InputError(f"{name} is damaged ({_problem(error)}): {advice}") from None


def as_kind(value: Any, kind: type[_T], name: str, advice: str) -> _T:
    """Converts plain values, e.g. those of decoded JSON, into a type; see ``from_json``."""
    import msgspec

    try:
        return msgspec.convert(value, kind)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InputError(f"{name} is damaged ({_problem(error)}): {advice}") from None


def _problem(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    found = _AT_FIELD.fullmatch(str(error))
    text = str(error) if found is None else f"{found['field']}: {found['what']}"
    return text.replace("`", "")

"""Makes text of others fit to print: what a terminal would obey, and messages of errors."""

from __future__ import annotations

import re

# Control characters except for line breaks; separators and marks that break or turn lines; and
# halves of characters, which stand for bytes of file names that are not UTF-8.
_OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    r"""Returns a text with its control characters written out, e.g. ``\x1b`` for escape."""
    return _OBEYED.sub(lambda found: ascii(found[0])[1:-1], text)


def first_line(error: Exception) -> str:
    """Returns the first line of an error's message; its type if it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]

"""Words that agree with numbers."""

from __future__ import annotations


def number_of(count: int, noun: str, verb: str = "") -> str:
    """Returns a count with its noun, as in ``1 network`` and ``2 networks``.

    Args:
        count: The count.
        noun: A noun in the singular whose plural ends in s, or in es where the noun ends in s.
        verb: ``"were"``, if the sentence goes on with it.
    """
    plural = "" if count == 1 else "es" if noun.endswith("s") else "s"
    said = f"{count} {noun}{plural}"
    return f"{said} {verb if plural else 'was'}" if verb else said

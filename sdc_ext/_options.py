"""Dataclass fields that the command line offers as options."""

from __future__ import annotations

from dataclasses import field
from typing import Any

# The source of a value that the user has chosen.
YOUR_CHOICE = "your choice"


def option(default: Any, help_text: str, source: str | None = None) -> Any:
    """A dataclass field that the command line offers.

    Args:
        default: its value where no rule and no user says otherwise.
        help_text: for ``--help``.
        source: where the default comes from; left out, it is the method's source.
    """
    return field(default=default, metadata={"help": help_text, "source": source})

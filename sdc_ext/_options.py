"""Dataclass fields that the command line offers as options."""

from __future__ import annotations

from dataclasses import field
from typing import Any

# The source of a value that the user has chosen.
YOUR_CHOICE = "your choice"

# The source of a default that no paper or script has.
OURS = "sdc-ext default"

# The headings under which help lists the settings of a run, in this order.
CORRECTION = "the correction"
IMAGES = "the synthetic images"
MATCHING = "matching"
EVALUATION = "evaluation"
DATA = "data and networks"
COMPUTING = "computing"
OTHER = "other settings"
GROUPS = (CORRECTION, IMAGES, MATCHING, EVALUATION, DATA, COMPUTING, OTHER)


def option(default: Any, help_text: str, source: str | None = None, group: str = OTHER) -> Any:
    """Makes a dataclass field that the command line offers as an option.

    Args:
        default: The value where neither a rule nor the user says otherwise.
        help_text: The description that ``--help`` prints.
        source: Where the default comes from; if left out, it is the method's source.
        group: The heading under which ``--help`` lists it.
    """
    return field(default=default, metadata={"help": help_text, "source": source, "group": group})

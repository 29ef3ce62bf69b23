"""Arms of a comparison: the settings in which its runs differ."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any

from sdc_ext._values import is_number, plain

_MOST_CHARACTERS = 60

# What folder names may hold on every system; settings are separated by commas.
_SAFE = re.compile(rf"[a-z0-9_.,-]{{1,{_MOST_CHARACTERS}}}")

# Larger numbers are of no use, and may be too large for floating point.
_LARGEST = 1e100

# The arm that adds nothing to the settings that all runs share.
_NOTHING = "defaults"


@dataclass(frozen=True)
class Arm:
    """One side of a comparison: settings by name, apart from those that all runs share.

    Two arms are equal if their settings are, in whatever order they were given.

    Attributes:
        settings: Pairs of a setting's name and its value, sorted by name.
    """

    settings: tuple[tuple[str, Any], ...]

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Arm:
        """Makes an arm from settings by name, whose values become plain ones."""
        return cls(tuple((name, plain(settings[name])) for name in sorted(settings)))

    @property
    def name(self) -> str:
        """The settings as text, e.g. ``lam 0.002, norm l2_squared``."""
        return ", ".join(f"{name} {_text(value)}" for name, value in self.settings) or _NOTHING

    @property
    def folder(self) -> str:
        """The name of the folder with the runs, which arms with other settings do not have.

        It holds only what every system allows in names; where that changes or cuts the settings,
        a digest of them follows. Arms of lam alone, whose folders name six digits of it, share a
        folder if these are equal.
        """
        if self.is_lam:
            return f"lam-{self.values['lam'] + 0.0:g}"  # -0 is 0
        exact = ",".join(f"{name}-{_text(value)}" for name, value in self.settings) or _NOTHING
        if _SAFE.fullmatch(exact):
            return exact
        content = json.dumps([[name, _text(value)] for name, value in self.settings])
        digest = hashlib.sha256(content.encode()).hexdigest()[:8]
        safe = re.sub(r"[^a-z0-9_.,-]", "-", exact.lower())
        return f"{safe[:_MOST_CHARACTERS]}+{digest}"

    @property
    def is_lam(self) -> bool:
        """Whether a number for lam is the only setting."""
        value = self.values.get("lam", "")
        return len(self.settings) == 1 and is_number(value) and abs(value) < _LARGEST

    @property
    def values(self) -> dict[str, Any]:
        """The settings by name."""
        return dict(self.settings)

    def __str__(self) -> str:
        return self.name


def _text(value: Any) -> str:
    """Returns a value as text, which only equal values of a setting have."""
    if isinstance(value, tuple):
        return " ".join(map(_text, value))
    if not is_number(value):
        return str(value)
    if isinstance(value, Integral) or (float(value).is_integer() and abs(value) < 1e15):
        return str(int(value))
    number = float(value)
    return f"{number:g}" if float(f"{number:g}") == number else repr(number)

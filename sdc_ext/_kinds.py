"""Kinds of values: which values are allowed, how a text is read, and what a refusal says."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeGuard

from sdc_ext.errors import MOST_SHOWN, InputError, check_choice

_WHOLE = re.compile(r"[+-]?[0-9]{1,20}")

_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,5})?")


class Kind(ABC):
    """A kind of value. Its text, as in ``str(kind)``, says what is allowed.

    Attributes:
        placeholder: What help prints for a value.
    """

    placeholder: ClassVar[str]

    @abstractmethod
    def accept(self, value: object) -> Any:
        """Returns the value as the library uses it, or None if it is not allowed."""

    def parse(self, text: str) -> object:
        """Returns what a text stands for, which may still be out of bounds."""
        return text

    def refuse(self, name: str, value: object) -> InputError:
        """Returns the error for a value that is not allowed."""
        return InputError(f"{name} must be {self}, got {_shown(value)}")

    def check(self, name: str, value: object) -> Any:
        """Returns the value as the library uses it.

        Args:
            name: What messages call the value, e.g. ``"`seed`"``.
            value: The value.

        Raises:
            InputError: If it is not allowed.
        """
        found = self.accept(value)
        if found is None:
            raise self.refuse(name, value)
        return found

    def read(self, name: str, text: str) -> Any:
        """Returns the value that a text stands for; see ``check``."""
        found = self.accept(self.parse(text))
        if found is None:
            raise self.refuse(name, _Written(text))
        return found

    def __call__(self, text: str) -> Any:
        """Reads a text, as argparse wants it of the type of an option."""
        return self.read("the value", text)


@dataclass(frozen=True)
class Whole(Kind):
    """Whole numbers from ``least`` to ``most``."""

    placeholder = "N"

    least: int = 0
    most: int = 10**9

    def __str__(self) -> str:
        return f"a whole number from {self.least} to {self.most}"

    def accept(self, value: object) -> int | None:
        """See [`Kind`][sdc_ext._kinds.Kind]."""
        if isinstance(value, bool) or not isinstance(value, Integral):
            return None
        return int(value) if self.least <= int(value) <= self.most else None

    def parse(self, text: str) -> object:
        """See [`Kind`][sdc_ext._kinds.Kind]."""
        return int(text) if _WHOLE.fullmatch(text) else text


@dataclass(frozen=True)
class Number(Kind):
    """Numbers between two bounds, which belong to them as the brackets of an interval say.

    Attributes:
        least: The lower bound.
        most: The upper bound.
        ends: The brackets, e.g. ``"[)"`` if the upper bound is not allowed itself.
        or_zero: Whether 0 is allowed, too.
    """

    placeholder = "X"

    least: float
    most: float
    ends: Literal["[]", "[)", "(]", "()"] = "[]"
    or_zero: bool = False

    def __str__(self) -> str:
        low, high = f"{self.least:g}", f"{self.most:g}"
        allowed = {
            "[]": f"from {low} to {high}",
            "[)": f"of at least {low} and below {high}",
            "(]": f"above {low} and at most {high}",
            "()": f"above {low} and below {high}",
        }
        return ("0, or " if self.or_zero else "") + f"a number {allowed[self.ends]}"

    def accept(self, value: object) -> float | None:
        """See [`Kind`][sdc_ext._kinds.Kind]."""
        if isinstance(value, bool) or not isinstance(value, Real):
            return None
        number: Any = value  # as it is, since integers may be too large for a float
        low = number > self.least or (self.ends[0] == "[" and number == self.least)
        high = number < self.most or (self.ends[1] == "]" and number == self.most)
        if not (low and high) and not (self.or_zero and number == 0):
            return None
        return number if isinstance(number, int) else float(number)

    def parse(self, text: str) -> object:
        """See [`Kind`][sdc_ext._kinds.Kind]."""
        return float(text) if _DECIMAL.fullmatch(text) else text


@dataclass(frozen=True)
class Sides(Kind):
    """Sizes of pictures as (height, width); one number stands for both."""

    placeholder = "SIZE"

    most: int = 4096

    def __str__(self) -> str:
        return f"pixels as 32 or HEIGHTxWIDTH, e.g. 32x48, each from 1 to {self.most}"

    def accept(self, value: object) -> tuple[int, int] | None:
        """See [`Kind`][sdc_ext._kinds.Kind]."""
        sides = value if isinstance(value, tuple | list) else (value, value)
        found = [Whole(1, self.most).accept(side) for side in sides]
        return (found[0], found[1]) if len(found) == 2 and found[0] and found[1] else None

    def parse(self, text: str) -> object:
        """See [`Kind`][sdc_ext._kinds.Kind]."""
        sides = [Whole().parse(side) for side in text.split("x")]
        return sides[0] if len(sides) == 1 else sides


class Text(Kind):
    """Names and other texts."""

    placeholder = "NAME"

    def __str__(self) -> str:
        return "a text that is not empty"

    def accept(self, value: object) -> str | None:
        """See [`Kind`][sdc_ext._kinds.Kind]."""
        return value if isinstance(value, str) and value.strip() else None


class Place(Kind):
    """Paths, given as text or as ``Path``."""

    placeholder = "PATH"

    def __str__(self) -> str:
        return "a path that is not empty"

    def accept(self, value: object) -> Path | None:
        """See [`Kind`][sdc_ext._kinds.Kind]."""
        if not isinstance(value, str | os.PathLike):
            return None
        text = os.fspath(value)
        usable = isinstance(text, str) and text.strip() and "\0" not in text
        return Path(text) if usable else None


class Flag(Kind):
    """True and False."""

    placeholder = ""

    def __str__(self) -> str:
        return "True or False"

    def accept(self, value: object) -> bool | None:
        """See [`Kind`][sdc_ext._kinds.Kind]."""
        return value if isinstance(value, bool) else None

    def parse(self, text: str) -> object:
        """See [`Kind`][sdc_ext._kinds.Kind]."""
        return {"true": True, "false": False}.get(text.lower(), text)


@dataclass(frozen=True)
class OneOf(Kind):
    """A few texts."""

    placeholder = "NAME"

    choices: tuple[str, ...]

    def __str__(self) -> str:
        return f"one of {', '.join(self.choices)}"

    def accept(self, value: object) -> str | None:
        """See [`Kind`][sdc_ext._kinds.Kind]."""
        return value if isinstance(value, str) and value in self.choices else None

    def refuse(self, name: str, value: object) -> InputError:
        """See [`Kind`][sdc_ext._kinds.Kind]."""
        try:
            check_choice(name.strip("`"), str(value), self.choices)
        except InputError as error:
            return error
        return super().refuse(name, value)


@dataclass(frozen=True)
class Many(Kind):
    """Sequences of one kind; a text has commas between its values, apart from those in brackets.

    Attributes:
        each: The kind of the values.
        once: Whether a value that comes again is left out.
    """

    placeholder = "NAMES"

    each: Kind
    once: bool = False

    def __str__(self) -> str:
        return f"a sequence, each of which is {self.each}"

    def accept(self, value: object) -> tuple[Any, ...] | None:
        """See [`Kind`][sdc_ext._kinds.Kind]."""
        if isinstance(value, str) or not isinstance(value, Sequence):
            return None
        found = tuple(self.each.accept(one) for one in value)
        if None in found:
            return None
        return tuple(dict.fromkeys(found)) if self.once else found

    def parse(self, text: str) -> object:
        """See [`Kind`][sdc_ext._kinds.Kind]."""
        return [self.each.parse(part.strip()) for part in _split(text)]

    def refuse(self, name: str, value: object) -> InputError:
        """Names the first value of a sequence that is not allowed, if it is one."""
        if isinstance(value, Sequence) and not isinstance(value, str):
            wrong = [one for one in value if self.each.accept(one) is None]
            return self.each.refuse(name, wrong[0])
        if isinstance(value, _Written):
            for part in map(str.strip, _split(value)):
                if self.each.accept(self.each.parse(part)) is None:
                    return self.each.refuse(name, _Written(part))
        return super().refuse(name, value)


@dataclass(frozen=True)
class Several(Kind):
    """Tuples with one kind for each place; a text has commas between its values.

    Attributes:
        each: The kind of each place.
        places: What messages and help call the places; by default they are numbered.
    """

    placeholder = "X"

    each: tuple[Kind, ...]
    places: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{len(self.each)} values ({'; '.join(map(str, self.each))})"

    def accept(self, value: object) -> tuple[Any, ...] | None:
        """See [`Kind`][sdc_ext._kinds.Kind]."""
        if not self._fits(value):
            return None
        found = tuple(kind.accept(one) for kind, one in zip(self.each, value, strict=True))
        return None if None in found else found

    def check(self, name: str, value: object) -> tuple[Any, ...]:
        """Names the first place whose value is not allowed, if their number is."""
        if not self._fits(value):
            raise self.refuse(name, value)
        named = zip(self.each, self._named(name), value, strict=True)
        return tuple(kind.check(place, one) for kind, place, one in named)

    def read(self, name: str, text: str) -> tuple[Any, ...]:
        """Names the first place whose text is not allowed, if their number is."""
        parts = text.split(",")
        if not self._fits(parts):
            raise self.refuse(name, _Written(text))
        named = zip(self.each, self._named(name), parts, strict=True)
        return tuple(kind.read(place, part.strip()) for kind, place, part in named)

    def _fits(self, value: object) -> TypeGuard[Sequence[Any]]:
        if isinstance(value, str) or not isinstance(value, Sequence):
            return False
        return len(value) == len(self.each)

    def _named(self, name: str) -> list[str]:
        places = self.places or [f"value {number}" for number, _ in enumerate(self.each, 1)]
        return [f"{place} of {name}" for place in places]


def _split(text: str) -> list[str]:
    """Splits at commas outside of brackets, which belong to the arguments of an augmentation."""
    parts, depth = [""], 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


class _Written(str):
    """A text as the user has written it, which messages repeat without quotes."""


def _shown(value: object) -> str:
    plain = isinstance(value, _Written) and value.isprintable() and value.strip() == value != ""
    text = str(value) if plain else repr(str(value) if isinstance(value, _Written) else value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."

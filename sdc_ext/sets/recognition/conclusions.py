"""Holds what statistics conclude about a set: the conclusion, its certainty, and the evidence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

Certainty: TypeAlias = Literal["sure", "likely", "unknown"]


@dataclass(frozen=True)
class Conclusion:
    """What is concluded about one property of a set.

    Attributes:
        about: The property, e.g. ``"pixels"``.
        conclusion: What was found, e.g. ``"ZCA-whitened"``.
        certainty: ``"sure"`` is acted upon; ``"likely"`` is acted upon with a warning; and
            ``"unknown"`` has to be said by the user.
        evidence: A sentence with the numbers.
    """

    about: str
    conclusion: str
    certainty: Certainty
    evidence: str


@dataclass(frozen=True)
class Recognition:
    """All conclusions about a set, in the order in which they were drawn."""

    conclusions: tuple[Conclusion, ...]

    @classmethod
    def of(cls, conclusions: Iterable[Conclusion | None]) -> Recognition:
        """Returns the conclusions that were drawn."""
        return cls(tuple(one for one in conclusions if one is not None))

    def about(self, what: str) -> Conclusion | None:
        """Returns the conclusion about a property; None without one."""
        by_property: Mapping[str, Conclusion] = {one.about: one for one in self.conclusions}
        return by_property.get(what)

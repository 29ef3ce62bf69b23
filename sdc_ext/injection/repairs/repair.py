"""What a repair is: its cause, how it is detected, and how it is installed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import NamedTuple, TypeAlias

from sdc_ext.injection.patches import Patches
from sdc_ext.injection.sources import Project, Source

Say: TypeAlias = Callable[[], None]


class Place(NamedTuple):
    """A line that needs a repair.

    Attributes:
        file: The name of the file.
        line: The line in it.
        what: What stands there, in the source's or the library's own words; "" if that is clear.
    """

    file: str
    line: int
    what: str = ""

    @classmethod
    def of(cls, source: Source, node: object, what: str = "") -> Place:
        """Returns the place of a node."""
        return cls(source.name, getattr(node, "lineno", 0), what)


@dataclass(frozen=True)
class Repair:
    """One repair.

    Attributes:
        name: A short name.
        cause: What fails on this machine, and why, in words for users.
        remedy: What the repair does about it, in words for users.
        find: Returns the places of a project that need it on this machine; none if it is not
            needed.
        install: Applies it at the places; calls its last argument where it takes effect.
        consent: The option by which the user allows it; None if it needs none.
        explains: Returns whether a script that ended with this error lacked the repair.
    """

    name: str
    cause: str
    remedy: str
    find: Callable[[Project], list[Place]]
    install: Callable[[Patches, Sequence[Place], Say], None]
    consent: str | None = None
    explains: Callable[[BaseException], bool] = lambda error: False


@dataclass
class Needed:
    """A repair that a script needs.

    Attributes:
        repair: The repair.
        places: Where it is needed.
    """

    repair: Repair
    places: Sequence[Place]
    _said: bool = field(default=False, init=False)

    def __str__(self) -> str:
        return f"{self.repair.name}: {self.repair.cause}; {self.repair.remedy} ({self.where})"

    @property
    def advice(self) -> str:
        """Says by which option the user allows the repair."""
        return (
            f"{self.repair.cause}; pass {self.repair.consent} if you trust the files that the "
            f"script reads: {self.repair.remedy} ({self.where})"
        )

    @property
    def where(self) -> str:
        """The first place, and the number of the others."""
        first, others = self.places[0], len(self.places) - 1
        what = f"{first.what}, " if first.what else ""
        more = f" and {others} other place{'s' * (others > 1)}" if others else ""
        return f"{what}{first.file} line {first.line}{more}"

    def install(self, patches: Patches, say: Callable[[str], None]) -> None:
        """Applies the repair; it is said once, where it first takes effect."""

        def once() -> None:
            if not self._said:
                self._said = True
                say(f"repaired {self}")

        self.repair.install(patches, self.places, once)


def install_module(name: str, module: ModuleType, patches: Patches) -> None:
    """Makes a module importable under a name, also as an attribute of its package."""
    before = sys.modules.get(name)
    sys.modules[name] = module
    patches.add(lambda: _restore(name, before))
    package, _, last = name.rpartition(".")
    if package in sys.modules:
        set_attribute(sys.modules[package], last, module, patches)


def set_attribute(owner: object, name: str, value: object, patches: Patches) -> None:
    """Sets an attribute, also one that does not exist yet."""
    if name in vars(owner):
        patches.wrap(owner, name, lambda _: value)
    else:
        setattr(owner, name, value)
        patches.add(lambda: delattr(owner, name))


def _restore(name: str, before: ModuleType | None) -> None:
    if before is None:
        sys.modules.pop(name, None)
    else:
        sys.modules[name] = before

"""The public surface is the recorded one: what packages export, with signatures.

    python tests/test_surface.py --write

records what the installed packages export now.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import json
import pkgutil
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import GenericAlias
from typing import Any

import sdc_ext
from sdc_ext.errors import InputError

RECORDED = Path(__file__).parent / "api_surface.json"
COMMAND = "python tests/test_surface.py --write"

# What is behind the program is not imported from.
INTERNAL = {"sdc_ext.cli"}


def surface() -> dict[str, str]:
    """Every public name of every package, in order: its kind and its signature."""
    inner = [m.name for m in pkgutil.iter_modules(sdc_ext.__path__, "sdc_ext.") if m.ispkg]
    found: dict[str, str] = {}
    # An editable installation maps them to a folder of their own.
    adapters = {"sdc_ext.adapters", "sdc_ext.adapters.loops"}
    for package in sorted({"sdc_ext", *adapters, *inner} - INTERNAL):
        module = importlib.import_module(package)
        for name in sorted(exported(module)):
            found |= described(f"{package}.{name}", getattr(module, name))
    return found


def exported(module: Any) -> list[str]:
    """``__all__``, or else the public functions and classes of ours that it holds."""
    held = {n: getattr(v, "__module__", "") for n, v in vars(module).items() if n[0] != "_"}
    return list(getattr(module, "__all__", [n for n, of in held.items() if "sdc_ext" in str(of)]))


def described(name: str, thing: Any) -> dict[str, str]:
    """A function, a class with its public members, or a value."""
    if inspect.isclass(thing) and issubclass(thing, BaseException):
        return {name: f"exception of {thing.__base__.__name__}"}
    # Python 3.10 takes an alias such as Callable[[int], str] for a class.
    if inspect.isclass(thing) and not isinstance(thing, GenericAlias):
        return {name: f"class {signature(thing)}", **dict(members(name, thing))}
    if inspect.isroutine(inspect.unwrap(thing)):
        return {name: f"function {signature(thing)}"}
    return {name: "value"}


def members(name: str, cls: type[Any]) -> Iterator[tuple[str, str]]:
    """Public methods and properties of ours, inherited ones too."""
    inherited = {key: value for base in reversed(cls.__mro__[:-1]) for key, value in ours(base)}
    for key, value in sorted(inherited.items()):
        if isinstance(value, property) or type(value).__name__ == "cached_property":
            getter = value.fget if isinstance(value, property) else value.func
            yield f"{name}.{key}", f"property {signature(getter)}"
        elif isinstance(value, (classmethod, staticmethod)):
            kind = type(value).__name__
            yield f"{name}.{key}", f"{kind} {signature(value.__func__)}"
        elif inspect.isfunction(value):
            yield f"{name}.{key}", f"method {signature(value)}"


def ours(cls: type[Any]) -> list[tuple[str, Any]]:
    """The public part of a class's own body, but for fields, if it is a class of this library."""
    if not cls.__module__.startswith("sdc_ext"):
        return []
    fields = getattr(cls, "__dataclass_fields__", ())
    return [(k, v) for k, v in vars(cls).items() if not k.startswith("_") and k not in fields]


def signature(thing: Any) -> str:
    """Its signature as text, without what differs from one start to the next."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(inspect.signature(thing)))


def as_text(found: dict[str, str]) -> str:
    return json.dumps(found, indent=1) + "\n"


def test_the_surface_is_the_recorded_one() -> None:
    before, now = RECORDED.read_text(encoding="utf-8"), as_text(surface())
    difference = "\n".join(
        difflib.unified_diff(
            before.splitlines(), now.splitlines(), "recorded", "now", lineterm="", n=0
        )
    )
    assert before == now, (
        f"the public surface has changed:\n{difference}\n"
        f"If that is meant, note it in CHANGELOG.md and run: {COMMAND}"
    )


class Example:
    """What a description holds."""

    constant = 1

    def __init__(self, size: int = 2) -> None:
        self.size = size

    @property
    def area(self) -> int:
        return self.size**2

    @classmethod
    def of(cls, text: str) -> Example:
        return cls(len(text))

    def _private(self) -> None: ...


Example.__module__ = "sdc_ext.example"  # as if it were a class of the library


def test_kinds_members_and_signatures_are_described() -> None:
    assert described("Example", Example) == {
        "Example": "class (size: 'int' = 2) -> 'None'",
        "Example.area": "property (self) -> 'int'",
        "Example.of": "classmethod (cls, text: 'str') -> 'Example'",
    }
    assert described("three", 3) == {"three": "value"}
    assert described("f", lambda size=2: 0) == {"f": "function (size=2)"}
    assert described("InputError", InputError) == {"InputError": "exception of ValueError"}


def test_every_package_is_recorded_with_names_of_its_own() -> None:
    found = surface()
    for name in ("with_sdc", "evaluation.Drift.of", "adapters.METHODS", "theory.solve"):
        assert f"sdc_ext.{name}" in found
    assert not [name for name in found if any(part[0] == "_" for part in name.split("."))]


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(f"usage: {COMMAND}")
    RECORDED.write_text(as_text(surface()), encoding="utf-8")
    print(f"wrote {RECORDED}")

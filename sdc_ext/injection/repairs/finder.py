"""Makes modules importable that are not installed."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from sdc_ext.injection.patches import Patches


class Finder:
    """Finds a package and everything below it, as ``sys.meta_path`` wants it.

    Args:
        root: The name of the package.
        make: Returns the module with a name, and is called when a script imports it.
    """

    def __init__(self, root: str, make: Callable[[str], ModuleType]) -> None:
        self._root = root
        self._make = make

    def find_spec(self, name: str, *_: Any) -> ModuleSpec | None:
        """Returns the specification of the package or of a module below it."""
        if not f"{name}.".startswith(f"{self._root}."):
            return None
        return ModuleSpec(name, self, is_package=True)  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Returns the module."""
        return self._make(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Does nothing, since the module is complete."""


def make_importable(root: str, make: Callable[[str], ModuleType], patches: Patches) -> None:
    """Makes a package importable; a real one that Python finds elsewhere is hidden only now.

    A package that a script adds to ``sys.path`` later on is found before the stand-in.

    Args:
        root: The name of the package.
        make: Returns the module with a name, at its first import.
        patches: Undoes it.
    """
    finder: Any = Finder(root, make)
    hides = _spec(root) is not None
    before = _take_modules(root)
    sys.meta_path.insert(0 if hides else len(sys.meta_path), finder)

    def undo() -> None:
        sys.meta_path.remove(finder)
        _take_modules(root)
        sys.modules.update(before)
        package, _, name = root.rpartition(".")
        vars(sys.modules.get(package, finder)).pop(name, None)

    patches.add(undo)


def _spec(name: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None


def _take_modules(root: str) -> dict[str, ModuleType]:
    """Removes a package from the imported modules, and returns it."""
    names = [name for name in sys.modules if f"{name}.".startswith(f"{root}.")]
    return {name: sys.modules.pop(name) for name in names}

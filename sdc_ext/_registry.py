"""Looks things up by name: built-in ones, registered ones, and those of installed packages."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from sdc_ext.errors import InputError, check_choice

T = TypeVar("T")


class Registry(Generic[T]):
    """Values that can be looked up by name.

    Installed packages add values through entry points of the registry's group. An entry point is
    loaded when its name is first looked up.

    Args:
        what: What the names stand for, for messages, e.g. ``"method"``.
        group: The group of entry points, e.g. ``"sdc_ext.methods"``.
        builtin: The library's own values, by name.
    """

    def __init__(self, what: str, group: str, builtin: Mapping[str, T]) -> None:
        self._what = what
        self._group = group
        self._known = dict(builtin)
        self._builtin = frozenset(builtin)
        self._added: dict[str, T] = {}

    def register(self, name: str, value: T) -> None:
        """Adds a value, or replaces one that was registered earlier.

        Raises:
            InputError: If the name belongs to a built-in value.
        """
        if name in self._builtin:
            raise InputError(
                f"the {self._what} {name!r} is built into sdc-ext: register yours under another "
                "name"
            )
        self._known[name] = self._added[name] = value

    def added(self) -> dict[str, T]:
        """Returns the values that were registered, by name."""
        return dict(self._added)

    def get(self, name: str) -> T:
        """Returns the value with this name.

        Raises:
            InputError: If there is none (the message lists the names), or if the package that
                offers it cannot be loaded.
        """
        if name not in self._known:  # which saves the search through all installed packages
            check_choice(self._what, name, self.names())
            self._known[name] = self._load(self._offered()[name])
        return self._known[name]

    def names(self) -> list[str]:
        """Returns all names: built-in and registered ones first, then those of packages."""
        return list(dict.fromkeys([*self._known, *self._offered()]))

    def __contains__(self, name: object) -> bool:
        return name in self._known or name in self._offered()

    def _offered(self) -> dict[str, EntryPoint]:
        found = entry_points(group=self._group)
        return {point.name: point for point in found if point.name not in self._builtin}

    def _load(self, point: EntryPoint) -> T:
        try:
            value: T = point.load()
        except Exception as error:  # importing other people's modules may raise anything
            package = point.dist.name if point.dist is not None else point.module
            raise InputError(
                f"the {self._what} {point.name!r} of the package {package} cannot be loaded "
                f"({type(error).__name__}: {error}): repair or uninstall that package"
            ) from error
        return value

"""Things by name: ours, those that a program registers, and those of installed packages."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from sdc_ext.errors import InputError, check_choice

T = TypeVar("T")


class Registry(Generic[T]):
    """What can be asked for by name.

    Installed packages add to it by an entry point of its group, which is loaded when its name is
    asked for.

    Args:
        what: What the names are of, for messages, e.g. ``"method"``.
        group: The group of entry points, e.g. ``"sdc_ext.methods"``.
        builtin: Ours.
    """

    def __init__(self, what: str, group: str, builtin: Mapping[str, T]) -> None:
        self._what = what
        self._group = group
        self._known = dict(builtin)
        self._builtin = frozenset(builtin)

    def register(self, name: str, value: T) -> None:
        """Adds a value, or replaces one that was registered earlier.

        Raises:
            InputError: If the name is one of ours.
        """
        if name in self._builtin:
            raise InputError(
                f"{self._what} {name!r} is one of sdc-ext's own: register yours under another name"
            )
        self._known[name] = value

    def get(self, name: str) -> T:
        """The value of that name.

        Raises:
            InputError: If there is none, which lists the names; or if the package that offers it
                cannot be loaded.
        """
        check_choice(self._what, name, self.names())
        if name not in self._known:
            self._known[name] = self._load(self._offered()[name])
        return self._known[name]

    def names(self) -> list[str]:
        """All names: ours first, then those of others."""
        return list(dict.fromkeys([*self._known, *self._offered()]))

    def __contains__(self, name: object) -> bool:
        return name in self._known or name in self._offered()

    def _offered(self) -> dict[str, EntryPoint]:
        found = entry_points(group=self._group)
        return {point.name: point for point in found if point.name not in self._builtin}

    def _load(self, point: EntryPoint) -> T:
        try:
            value: T = point.load()
        except Exception as error:  # whatever a stranger's module raises when it is imported
            package = point.dist.name if point.dist is not None else point.module
            raise InputError(
                f"{self._what} {point.name!r} of the package {package} cannot be loaded "
                f"({type(error).__name__}: {error}): repair or uninstall that package"
            ) from error
        return value

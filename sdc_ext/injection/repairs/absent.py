"""Lets scripts import packages that are missing, as long as they do not use them."""

from __future__ import annotations

import ast
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NoReturn

from sdc_ext.injection.names import is_installed
from sdc_ext.injection.patches import Patches
from sdc_ext.injection.repairs.finder import make_importable
from sdc_ext.injection.repairs.repair import Place, Repair, Say
from sdc_ext.injection.repairs.standins import STOOD_IN
from sdc_ext.injection.sources import Import, Project, Source


class Absent:
    """Something of a missing package, which fails where it is used.

    Args:
        package: The name of the package.
    """

    def __init__(self, package: str) -> None:
        self._package = package

    def __call__(self, *_: Any, **__: Any) -> NoReturn:
        """Fails as the import would have failed."""
        self._fail()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        self._fail()

    def _fail(self) -> NoReturn:
        raise ModuleNotFoundError(f"No module named {self._package!r}", name=self._package)


class _AbsentModule(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Absent(self.__name__.partition(".")[0])


def missing_packages(project: Project) -> dict[str, tuple[Source, Import, bool]]:
    """Returns the packages that are not installed and have no stand-in.

    Returns:
        For each package, the surest import of it, and whether the script must have it: whether
        it uses the package as soon as it is imported.
    """
    known = {*sys.stdlib_module_names, *STOOD_IN}
    missing: dict[str, tuple[Source, Import, bool]] = {}
    for source, found in sorted(project.foreign, key=lambda pair: not pair[1].sure):
        package = found.name.partition(".")[0]
        if package in known or found.guarded or not package or is_installed(package):
            continue
        first, place, must = missing.get(package, (source, found, False))
        missing[package] = (first, place, must or _uses_at_once(source, found))
    return missing


def _uses_at_once(source: Source, found: Import) -> bool:
    """Returns whether a file uses at its import what it imports."""
    names: set[str] = set()
    for node in source.nodes:
        if isinstance(node, (ast.Import, ast.ImportFrom)) and node.lineno == found.line:
            names |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
    if not found.sure or "*" in names:
        return found.sure
    return any(
        isinstance(node, ast.Name) and node.id in names and node.lineno in source.unconditional
        for node in source.nodes
    )


def _find(project: Project) -> list[Place]:
    return [
        Place(source.name, found.line, package)
        for package, (source, found, must) in missing_packages(project).items()
        if not must
    ]


def _install(patches: Patches, places: Sequence[Place], say: Say) -> None:
    def make(name: str) -> ModuleType:
        say()
        return _AbsentModule(name)

    for place in places:
        make_importable(place.what, make, patches)


REPAIRS = (
    Repair(
        "absent",
        "packages that the script imports are not installed",
        "importing them succeeds, and using them fails",
        _find,
        _install,
    ),
)

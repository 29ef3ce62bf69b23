"""Finds the names of libraries that a source uses, and whether this machine has them."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from sdc_ext.injection.sources import Source


class Missing(LookupError):
    """A module, class or function that does not exist on this machine."""


def uses(source: Source) -> Iterator[tuple[str, ast.AST]]:
    """Yields the dotted names that a file uses of what it imports, such as ``numpy.int``.

    A name follows the imports of its file: after ``import numpy as np``, ``np.int`` is
    ``numpy.int``. Every part of a chain is included in the longest one alone.
    """
    known = _imported_names(source)
    inner: set[int] = set()
    for node in source.nodes:  # breadth first: a chain comes before its parts
        if isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield from ((f"{node.module}.{alias.name}", node) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.Attribute) and id(node) not in inner:
            chain = _chain(node, inner)
            if chain and chain[0] in known:
                yield ".".join([known[chain[0]], *chain[1:]]), node


def dotted(node: ast.AST, source: Source) -> str:
    """Returns the dotted name that an expression stands for, and "" if it is not a name."""
    chain = _chain(node, set())
    return ".".join([_imported_names(source).get(chain[0], chain[0]), *chain[1:]]) if chain else ""


def lookup(name: str) -> Any:
    """Returns the module, class or function with a dotted name.

    Raises:
        Missing: If there is none. What hides behind an instance is not looked up.
    """
    parts = name.split(".")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # names that are about to go
        value: Any = _module(parts[0])
        for n, part in enumerate(parts[1:], 2):
            try:
                value = getattr(value, part)
            except AttributeError:
                if not isinstance(value, ModuleType):
                    raise Missing(name) from None
                value = _module(".".join(parts[:n]))
            if not isinstance(value, (ModuleType, type)):
                return value
    return value


def exists(name: str) -> bool:
    """Returns whether this machine has what a dotted name stands for."""
    try:
        lookup(name)
    except Missing:
        return False
    return True


def is_installed(module: str) -> bool:
    """Returns whether a module can be imported; a folder of its name without code is none."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return False
    return spec is not None and spec.origin is not None


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except Exception:  # whatever a broken installation raises, it is not there
        raise Missing(name) from None


def _imported_names(source: Source) -> dict[str, str]:
    known: dict[str, str] = {}
    for node in source.nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                known[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            for alias in node.names:
                known[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return known


def _chain(node: ast.AST, inner: set[int]) -> list[str]:
    """Returns the parts of ``a.b.c``, and [] for anything else; adds its nodes to ``inner``."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        inner.add(id(node))
        parts.append(node.attr)
        node = node.value
    return [node.id, *reversed(parts)] if isinstance(node, ast.Name) else []

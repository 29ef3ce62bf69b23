"""Finds what a program can run of the files that it imports, by the names that it uses."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeAlias, TypeGuard

from sdc_ext.injection.sources import Source, is_main_block

_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_Definition: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def reachable_texts(sources: Mapping[Path, Source], script: Path) -> dict[Path, str]:
    """Returns the files of a program, with what it cannot run left blank; lines keep their numbers.

    A function or class of a file counts if its name occurs in what runs when the files are
    imported, in the script's own main block, or in what counts already. A variable's name means
    the definition of its own file, if there is one. Decorated definitions always count, since a
    decorator may register them.

    Args:
        sources: Every file of the program.
        script: The file that is executed.
    """
    waiting = {
        path: {s for s in source.statements if _is_conditional(s, path == script)}
        for path, source in sources.items()
    }
    own = {path: {d.name for d in left if _is_definition(d)} for path, left in waiting.items()}
    names: dict[Path | None, set[str]] = {None: set(), **{path: set() for path in sources}}

    def note(path: Path, statement: ast.stmt) -> None:
        for name, is_variable in _names(statement):
            names[path if is_variable and name in own[path] else None].add(name)

    for path, source in sources.items():
        for statement in source.statements:
            if statement not in waiting[path]:
                note(path, statement)
    while True:
        found = [
            (path, d)
            for path, left in waiting.items()
            for d in left
            if _is_definition(d) and (d.name in names[None] or d.name in names[path])
        ]
        if not found:
            return {path: _without(source.text, waiting[path]) for path, source in sources.items()}
        for path, definition in found:
            waiting[path].remove(definition)
            note(path, definition)


def _is_definition(statement: ast.stmt) -> TypeGuard[_Definition]:
    return isinstance(statement, _DEFINITIONS)


def _is_conditional(statement: ast.stmt, is_script: bool) -> bool:
    """Returns whether a statement of a file runs only if something else asks for it."""
    if _is_definition(statement):
        return not statement.decorator_list
    return not is_script and is_main_block(statement)


def _names(node: ast.AST) -> Iterator[tuple[str, bool]]:
    """Yields the names that occur in a statement, each with whether it is that of a variable.

    Strings count, since they may name what is looked up.
    """
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name):
            yield inner.id, True
        elif isinstance(inner, ast.Attribute):
            yield inner.attr, False
        elif isinstance(inner, ast.alias) and inner.asname:
            yield inner.name.rpartition(".")[2], False
        elif isinstance(inner, ast.Constant) and isinstance(inner.value, str):
            yield inner.value, False


def _without(text: str, statements: set[ast.stmt]) -> str:
    lines = text.split("\n")  # as Python counts them
    for statement in statements:
        end = statement.end_lineno or statement.lineno
        lines[statement.lineno - 1 : end] = [""] * (end - statement.lineno + 1)
    return "\n".join(lines)

"""Finds what a program can run of the files that it imports, by the names that it uses."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

from sdc_ext.injection.sources import Source, is_main_block

_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def reachable_texts(sources: Mapping[Path, Source], script: Path) -> dict[Path, str]:
    """Returns the files of a program, with what it cannot run left blank; lines keep their numbers.

    A function or class of a file counts if its name occurs in what runs when the files are
    imported, in the script's own main block, or in what counts already. Decorated ones always
    count, since a decorator may register them.

    Args:
        sources: Every file of the program.
        script: The file that is executed.
    """
    waiting = {
        path: {s for s in source.statements if _is_conditional(s, path == script)}
        for path, source in sources.items()
    }
    names: set[str] = set()
    for path, source in sources.items():
        for statement in source.statements:
            if statement not in waiting[path]:
                names |= set(_names(statement))
    while True:
        found = [
            (path, d)
            for path, definitions in waiting.items()
            for d in definitions
            if isinstance(d, _DEFINITIONS) and d.name in names
        ]
        if not found:
            return {path: _without(source.text, waiting[path]) for path, source in sources.items()}
        for path, definition in found:
            waiting[path].remove(definition)
            names |= set(_names(definition))


def _is_conditional(statement: ast.stmt, is_script: bool) -> bool:
    """Returns whether a statement of a file runs only if something else asks for it."""
    if isinstance(statement, _DEFINITIONS):
        return not statement.decorator_list
    return not is_script and is_main_block(statement)


def _names(node: ast.AST) -> Iterator[str]:
    """Yields the identifiers that occur in a statement; strings may name what is looked up."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name):
            yield inner.id
        elif isinstance(inner, ast.Attribute):
            yield inner.attr
        elif isinstance(inner, ast.Constant) and isinstance(inner.value, str):
            yield inner.value


def _without(text: str, statements: set[ast.stmt]) -> str:
    lines = text.splitlines()
    for statement in statements:
        end = statement.end_lineno or statement.lineno
        lines[statement.lineno - 1 : end] = [""] * (end - statement.lineno + 1)
    return "\n".join(lines)

"""Reads a script and the modules of its project as text, without importing them."""

from __future__ import annotations

import ast
import os
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from sdc_ext.injection.syntax import called_name

N = TypeVar("N", bound=ast.AST)


@dataclass(frozen=True)
class Source:
    """One file of a project.

    Attributes:
        path: The file.
        text: Its text.
    """

    path: Path
    text: str

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """All nodes of the file's tree, breadth first; none if Python cannot parse it."""
        return parse(self.text)

    @property
    def statements(self) -> list[ast.stmt]:
        """The statements of the file itself, outside of any other."""
        return self.nodes[0].body if self.nodes and isinstance(self.nodes[0], ast.Module) else []

    @cached_property
    def unconditional(self) -> set[int]:
        """The lines that run whenever the file is imported."""
        found = (node for root in self.nodes[:1] for node in _always_run(root))
        return {node.lineno for node in found if isinstance(node, (ast.stmt, ast.expr))}

    @cached_property
    def guarded(self) -> set[int]:
        """The lines in the body of a ``try``, which expect that something may be missing."""
        bodies = [node.body for node in self.nodes if isinstance(node, ast.Try)]
        inner = (node for body in bodies for statement in body for node in ast.walk(statement))
        return {node.lineno for node in inner if isinstance(node, (ast.stmt, ast.expr))}

    @property
    def name(self) -> str:
        """The file's name, for messages."""
        return self.path.name


@dataclass(frozen=True)
class Import:
    """One imported module.

    Attributes:
        name: The dotted name, without leading dots.
        level: The number of leading dots.
        line: The line of the import.
        sure: Whether the line runs whenever its file is imported.
        guarded: Whether the line expects that the module may be missing.
        inner: What is imported from it, as dotted names; these may be modules, too.
    """

    name: str
    level: int
    line: int
    sure: bool
    guarded: bool
    inner: tuple[str, ...] = ()


@dataclass(frozen=True)
class Project:
    """A script with the modules that it imports from its own project.

    Attributes:
        script: The script's file, with symbolic links resolved.
        folder: The folder that the script runs in.
        roots: The folders that Python searches before those that the script adds.
        sources: Every file that was read; the script is the first.
        foreign: Imports of what is not part of the project, with the file that asks for it.
        elsewhere: Imports that succeed only if the script runs in its own folder.
    """

    script: Path
    folder: Path
    roots: tuple[Path, ...]
    sources: dict[Path, Source] = field(default_factory=dict)
    foreign: list[tuple[Source, Import]] = field(default_factory=list)
    elsewhere: list[tuple[Source, Import]] = field(default_factory=list)

    @classmethod
    def read(cls, script: Path, folder: Path | None = None, *roots: Path) -> Project:
        """Reads a script and follows its imports.

        Args:
            script: The file.
            folder: The folder that the script runs in; by default the script's own.
            roots: Folders to search for modules besides those that the script adds to
                ``sys.path``; by default the script's own folder.
        """
        script = script.resolve()
        project = cls(script, folder or script.parent, roots or (script.parent,))
        project._follow()
        return project

    @classmethod
    def of_text(cls, text: str) -> Project:
        """Returns the project of a script without modules of its own, from the script's text."""
        path = Path("script.py")
        source = Source(path, text)
        foreign = [(source, found) for found in imports(source)]
        return cls(path, Path(), (), {path: source}, foreign)

    @property
    def texts(self) -> dict[Path, str]:
        """The text of every file."""
        return {path: source.text for path, source in self.sources.items()}

    def nodes(self, *kinds: type[N]) -> Iterator[tuple[Source, N]]:
        """Yields the nodes of some kinds in every file, each with its file."""
        for source in self.sources.values():
            for node in source.nodes:
                if isinstance(node, kinds):
                    yield source, node

    def _follow(self) -> None:
        added: list[str] = []
        waiting = [self.script]
        while waiting:
            path = waiting.pop().resolve()
            if path in self.sources:
                continue
            text = path.read_text(encoding="utf-8-sig", errors="replace")
            source = self.sources[path] = Source(path, text)
            added += path_additions(source)
            for found in imports(source):
                waiting += self._files_of(source, found, added)

    def _files_of(self, source: Source, found: Import, added: list[str]) -> list[Path]:
        """Returns the project's files that an import runs; notes it if there are none."""
        if found.level:
            return _files_in([source.path.parents[found.level - 1]], found)
        here = _files_in([*self.roots, *(self.folder / name for name in added)], found)
        if here:
            return here
        there = _files_in([self.script.parent / name for name in added], found)
        (self.elsewhere if there else self.foreign).append((source, found))
        return there


def parse(source: str) -> list[ast.AST]:
    """Returns all nodes of a source; none if it cannot be parsed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in other people's strings
        try:
            return list(ast.walk(ast.parse(source)))
        except (SyntaxError, ValueError):
            return []


def imports(source: Source) -> Iterator[Import]:
    """Yields what a file imports."""
    for node in source.nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, 0, node.lineno, *_certainty(source, node.lineno))
        elif isinstance(node, ast.ImportFrom):
            start = node.module or ""
            inner = tuple(f"{start}.{alias.name}".lstrip(".") for alias in node.names)
            certainty = _certainty(source, node.lineno)
            yield Import(start, node.level, node.lineno, *certainty, inner)


def _certainty(source: Source, line: int) -> tuple[bool, bool]:
    return line in source.unconditional, line in source.guarded


def path_additions(source: Source) -> Iterator[str]:
    """Yields the folders that a file adds to ``sys.path``, as far as they can be computed."""
    known: dict[str, str] = {"__file__": str(source.path)}
    for node in source.nodes:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            value = _path_value(node.value, known)
            if value is not None:
                known[node.targets[0].id] = value
    for node in source.nodes:
        if isinstance(node, ast.Call) and ast.unparse(node.func) in (
            "sys.path.append",
            "sys.path.insert",
        ):
            yield from (v for a in node.args if (v := _path_value(a, known)) is not None)


def python_path() -> list[Path]:
    """Returns the folders of PYTHONPATH that are not those of installed packages."""
    if sys.flags.ignore_environment:
        return []
    installed = {
        sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")
    }
    names = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return [Path(name) for name in names if name and name not in installed]


def _files_in(folders: list[Path], found: Import) -> list[Path]:
    """Returns the files that an import runs of the first folder that has any."""
    for folder in folders:
        files = [f for name in (found.name, *found.inner) for f in _modules(folder, name)]
        if files:
            return files
    return []


def _modules(folder: Path, name: str) -> list[Path]:
    """Returns the files of a module and of the packages around it."""
    parts = name.split(".") if name else []
    module = folder.joinpath(*parts)
    files = [module.with_suffix(".py"), module / "__init__.py"] if parts else []
    if not any(f.is_file() for f in files):
        return []
    around = [folder.joinpath(*parts[:n], "__init__.py") for n in range(1, len(parts))]
    return [f for f in (*around, *files) if f.is_file()]


def _always_run(node: ast.AST) -> Iterator[ast.AST]:
    """Yields the statements below a node that are neither in functions nor conditional."""
    for child in ast.iter_child_nodes(node):
        conditional = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.Try)
        skipped = isinstance(child, ast.If) and not is_main_block(child)
        if isinstance(child, conditional) or skipped:
            continue
        yield child
        yield from _always_run(child)


def is_main_block(node: ast.AST) -> bool:
    """Returns whether a statement is the block that runs only if its file is executed."""
    return isinstance(node, ast.If) and "__name__" in ast.unparse(node.test)


def _path_value(node: ast.AST, known: dict[str, str]) -> str | None:
    """Returns the value of an expression of paths; None if it is not one of the usual kind."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if isinstance(node, ast.Attribute):
        if node.attr == "pardir":
            return os.pardir
        inner = _path_value(node.value, known)
        if node.attr == "parents":
            return inner
        return os.path.dirname(inner) if node.attr == "parent" and inner else None
    if isinstance(node, ast.Subscript) and _is_parents(node.value, node.slice):
        inner, index = _path_value(node.value, known), ast.literal_eval(node.slice)
        for _ in range(index + 1):
            inner = inner and os.path.dirname(inner)
        return inner
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Div, ast.Add)):
        sides = [_path_value(side, known) for side in (node.left, node.right)]
        return _joined(sides) if isinstance(node.op, ast.Div) else _sum(sides)
    return _called_value(node, known) if isinstance(node, ast.Call) else None


def _is_parents(node: ast.AST, index: ast.AST) -> bool:
    known = isinstance(index, ast.Constant) and isinstance(index.value, int)
    return known and isinstance(node, ast.Attribute) and node.attr == "parents"


def _called_value(call: ast.Call, known: dict[str, str]) -> str | None:
    name = called_name(call)
    values = [_path_value(argument, known) for argument in call.args]
    if name in ("resolve", "absolute", "as_posix") and isinstance(call.func, ast.Attribute):
        return _path_value(call.func.value, known)
    if name == "getcwd":
        return os.curdir
    if name in ("abspath", "realpath", "normpath", "str", "Path", "dirname") and values:
        value = values[0]
        return os.path.dirname(value) if name == "dirname" and value else value
    return _joined(values) if name == "join" else None


def _joined(parts: list[str | None]) -> str | None:
    known = [part for part in parts if part is not None]
    return os.path.join(*known) if known and len(known) == len(parts) else None


def _sum(parts: list[str | None]) -> str | None:
    known = [part for part in parts if part is not None]
    return "".join(known) if len(known) == len(parts) else None

"""Recognises the kind of matching loop in a script from simple facts about its source.

Nothing is imported or executed, and the names of files and functions play no role.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from sdc_ext.injection.learning import only_trains_networks
from sdc_ext.injection.profiles import Profile
from sdc_ext.injection.sources import parse

_FUNCTIONAL = {"flat_param", "ReparamModule"}


@dataclass(frozen=True)
class Facts:
    """Facts about a source; each is the number of the first line that matches, or 0.

    Attributes:
        captures: Asks for gradients with ``create_graph=True``.
        captures_again: Does so in a second place, like TESLA's second pass over the inner steps.
        backward: Calls ``backward``.
        assigns_grad: Sets the ``.grad`` of something to a value other than None.
        unrolls: Takes a step along such a gradient, or calls a network with flat parameters.
        keeps_parameters: Copies all parameters of a network to the CPU, as expert trainers do.
        repeats_gradients: Multiplies the tuple that ``autograd.grad`` returns by a number.
    """

    captures: int = 0
    captures_again: int = 0
    backward: int = 0
    assigns_grad: int = 0
    unrolls: int = 0
    keeps_parameters: int = 0
    repeats_gradients: int = 0

    @property
    def profile(self) -> Profile | Literal["none"] | None:
        """The profile that fits the facts; "none" for experts, which need no correction."""
        if not self.captures:
            return "none" if self.keeps_parameters else None
        if self.assigns_grad and self.captures_again and not self.backward:
            return "tesla"
        if self.backward or self.assigns_grad:
            return "tm" if self.unrolls else "gm"
        return None

    def __str__(self) -> str:
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        lines = [f"{name.replace('_', ' ')} (line {n})" for name, n in found.items() if n]
        return ", ".join(lines) or "no gradients with create_graph=True"


def read_facts(source: str) -> Facts:
    """Returns the facts about one file's text; all are 0 if Python cannot parse it."""
    nodes = parse(source)
    captured = _captured_names(nodes)
    found: dict[str, list[int]] = {}
    for node in nodes:
        for name in _facts_of(node, captured):
            found.setdefault(name, []).append(getattr(node, "lineno", 0))
    found["captures_again"] = sorted(found.get("captures", []))[1:]
    return Facts(**{name: min(lines) for name, lines in found.items() if lines})


def recognize(sources: dict[Path, str]) -> tuple[Path, Facts] | None:
    """Returns the first file of a project whose facts fit a profile, and these facts.

    A program that only trains networks, if with gradients of gradients, fits none.
    """
    found = _first_fit(sources)
    if found is None or (found[1].captures and trains_networks(sources)):
        return None
    return found


def gradient_penalty(sources: dict[Path, str]) -> tuple[Path, Facts] | None:
    """Returns the file that looks like distillation in a project that only trains networks."""
    found = _first_fit(sources)
    return found if found and found[1].captures and trains_networks(sources) else None


def trains_networks(sources: dict[Path, str]) -> bool:
    """Returns whether a project learns no data: every optimiser holds the trained network."""
    return only_trains_networks(parse(text) for text in sources.values())


def _first_fit(sources: dict[Path, str]) -> tuple[Path, Facts] | None:
    facts = ((path, read_facts(text)) for path, text in sources.items())
    return next((found for found in facts if found[1].profile is not None), None)


def _facts_of(node: ast.AST, captured: set[str]) -> Iterator[str]:
    if isinstance(node, ast.Call):
        called = _called_name(node)
        if _creates_graph(node):
            yield "captures"
        if called == "backward":
            yield "backward"
        if called in _FUNCTIONAL or any(k.arg in _FUNCTIONAL for k in node.keywords):
            yield "unrolls"
    elif isinstance(node, ast.Assign):
        cleared = isinstance(node.value, ast.Constant) and node.value.value is None
        targets = [t for t in node.targets if isinstance(t, ast.Attribute) and t.attr == "grad"]
        if targets and not cleared:
            yield "assigns_grad"
    elif isinstance(node, ast.ListComp):
        text = ast.unparse(node)
        if ".cpu()" in text and ".parameters()" in text:
            yield "keeps_parameters"
    elif isinstance(node, ast.BinOp):
        if isinstance(node.op, ast.Sub) and _is_multiple_of(node.right, captured):
            yield "unrolls"
        sides = (node.left, node.right)
        asks = any(isinstance(s, ast.Call) and _called_name(s) == "grad" for s in sides)
        if isinstance(node.op, ast.Mult) and asks:
            yield "repeats_gradients"


def _captured_names(nodes: list[ast.AST]) -> set[str]:
    """Returns the names of the variables that hold gradients with a graph."""
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Assign) and any(_creates_graph(n) for n in ast.walk(node.value)):
            for target in node.targets:
                names |= {n.id for n in ast.walk(target) if isinstance(n, ast.Name)}
    return names


def _creates_graph(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    given = [keyword.value for keyword in node.keywords if keyword.arg == "create_graph"]
    if _called_name(node) == "grad":
        given += node.args[4:5]
    return any(not (isinstance(g, ast.Constant) and not g.value) for g in given)


def _is_multiple_of(node: ast.AST, names: set[str]) -> bool:
    """Returns whether a node is like ``lr * grad``, which an unrolled step subtracts."""
    return (
        isinstance(node, ast.BinOp)
        and isinstance(node.op, ast.Mult)
        and any(isinstance(n, ast.Name) and n.id in names for n in ast.walk(node))
    )


def _called_name(call: ast.Call) -> str:
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return call.func.id if isinstance(call.func, ast.Name) else ""

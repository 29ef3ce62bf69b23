"""Recognises the kind of matching loop in a script from simple facts about its source.

Nothing is imported or executed, and the names of files and functions play no role.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from sdc_ext.injection.learning import (
    has_flat_parameters,
    lines_that_learn,
    only_trains_networks,
)
from sdc_ext.injection.profiles import Profile
from sdc_ext.injection.sources import parse
from sdc_ext.injection.syntax import called_name, creates_graph

_TRANSFORMS = {"grad", "grad_and_value"}


@dataclass(frozen=True)
class Facts:
    """Facts about a source; each is the number of the first line that matches, or 0.

    Attributes:
        captures: Asks for gradients with ``create_graph=True``, or makes a function that
            returns gradients, as ``torch.func.grad`` does.
        captures_again: Does so in a second place, like TESLA's second pass over the inner steps.
        backward: Calls ``backward``.
        assigns_grad: Sets the ``.grad`` of something to a value other than None.
        unrolls: Takes a step along such a gradient, or calls a network with flat parameters.
        keeps_parameters: Copies all parameters of a network to the CPU, as expert trainers do.
        differentiates_gradients: Asks for the gradient of such gradients, weighted by others, as
            back-propagation by hand through unrolled steps does.
        repeats_gradients: Multiplies the tuple that ``autograd.grad`` returns by a number.
        learns_tensors: Makes an optimiser of tensors that were made with ``requires_grad=True``,
            or a collection of such tensors with ``parameters``.
        files: The names of the files of those facts that another file of the project contributes.
    """

    captures: int = 0
    captures_again: int = 0
    backward: int = 0
    assigns_grad: int = 0
    unrolls: int = 0
    keeps_parameters: int = 0
    differentiates_gradients: int = 0
    repeats_gradients: int = 0
    learns_tensors: int = 0
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def profile(self) -> Profile | Literal["none"] | None:
        """The profile that fits the facts; "none" for experts, which need no correction."""
        if not self.captures:
            if self.keeps_parameters:
                return "none"
            return "dm" if self.learns_tensors else None
        if self.differentiates_gradients:
            return "tesla"
        if self.assigns_grad and self.captures_again and not self.backward:
            return "tesla"
        if self.backward or self.assigns_grad:
            return "tm" if self.unrolls else "gm"
        return None

    def __str__(self) -> str:
        found = {name: line for name in _NAMES if (line := getattr(self, name))}
        places = {name: f"{self.files[name]} " for name in found if name in self.files}
        lines = [
            f"{name.replace('_', ' ')} ({places.get(name, '')}line {n})"
            for name, n in found.items()
        ]
        return ", ".join(lines) or "no gradients with create_graph=True"


_NAMES = tuple(f.name for f in fields(Facts) if f.name != "files")


def read_facts(source: str) -> Facts:
    """Returns the facts about one file's text; all are 0 if Python cannot parse it."""
    nodes = parse(source)
    functions = {name for node in nodes for name in _imported_transforms(node)}
    captured = _captured_names(nodes, functions)
    found: dict[str, list[int]] = {}
    for node in nodes:
        for name in _facts_of(node, captured, functions):
            found.setdefault(name, []).append(getattr(node, "lineno", 0))
    found["captures_again"] = sorted(found.get("captures", []))[1:]
    found["learns_tensors"] = lines_that_learn(nodes)
    first: dict[str, Any] = {name: min(lines) for name, lines in found.items() if lines}
    return Facts(**first)


def recognize(sources: dict[Path, str]) -> tuple[Path, Facts] | None:
    """Returns the file of a project whose facts fit a profile, and these facts.

    A program that only trains networks fits none, even if it asks for gradients of gradients.
    """
    found = best_fit(sources)
    if found is None or (found[1].captures and trains_networks(sources)):
        return None
    return found


def gradient_penalty(sources: dict[Path, str]) -> tuple[Path, Facts] | None:
    """Returns the file that looks like distillation in a project that only trains networks."""
    found = best_fit(sources)
    return found if found and found[1].captures and trains_networks(sources) else None


def trains_networks(sources: dict[Path, str]) -> bool:
    """Returns whether a project learns no data: every optimiser holds the trained network."""
    return only_trains_networks(parse(text) for text in sources.values())


def best_fit(sources: Mapping[Path, str]) -> tuple[Path, Facts] | None:
    """Returns the first file whose facts fit a profile, and these facts.

    Where none does alone, a file that asks for gradients with a graph may belong to a loop that
    others contribute to. Then come files that train experts, and those that only make the images.
    """
    facts = {path: read_facts(text) for path, text in sources.items()}
    alone = [found for found in facts.items() if found[1].profile is not None]
    joint = [(path, _joined(own, facts)) for path, own in facts.items() if own.captures]
    ranks = {"gm": 0, "tm": 0, "tesla": 0, "none": 2, "dm": 3}
    ranked = [(ranks[found[1].profile], found) for found in alone if found[1].profile]
    ranked += [(1, found) for found in joint if found[1].profile]
    return min(ranked, key=lambda pair: pair[0], default=(0, None))[1]


def _joined(own: Facts, others: Mapping[Path, Facts]) -> Facts:
    """Returns the facts of a file, with those that only other files contribute."""
    added: dict[str, int] = {}
    files: dict[str, str] = {}
    for path, facts in others.items():
        for name in _NAMES:
            if getattr(facts, name) and not getattr(own, name) and name not in added:
                added[name], files[name] = getattr(facts, name), path.name
    return replace(own, **added, files=files)


def _facts_of(node: ast.AST, captured: set[str], functions: set[str]) -> Iterator[str]:
    if isinstance(node, ast.Call):
        called, captures = called_name(node), creates_graph(node)
        if captures or _is_transform(node, functions):
            yield "captures"
        if called == "backward" and not captures:
            yield "backward"
        if called == "grad" and not captures and captured & _weighted_names(node):
            yield "differentiates_gradients"
        if has_flat_parameters(node):
            yield "unrolls"
    elif isinstance(node, ast.Assign):
        cleared = isinstance(node.value, ast.Constant) and node.value.value is None
        parts = [p for t in node.targets for p in (t.elts if isinstance(t, ast.Tuple) else [t])]
        assigned = any(isinstance(p, ast.Attribute) and p.attr == "grad" for p in parts)
        if assigned and not cleared:
            yield "assigns_grad"
    elif isinstance(node, ast.ListComp):
        text = ast.unparse(node)
        if ".cpu()" in text and ".parameters()" in text:
            yield "keeps_parameters"
    elif isinstance(node, ast.BinOp):
        if isinstance(node.op, ast.Sub) and _is_multiple_of(node.right, captured):
            yield "unrolls"
        sides = (node.left, node.right)
        asks = any(called_name(side) == "grad" for side in sides)
        if isinstance(node.op, ast.Mult) and asks:
            yield "repeats_gradients"


def _captured_names(nodes: list[ast.AST], functions: set[str]) -> set[str]:
    """Returns the names of the variables that hold gradients with a graph."""
    makers: set[str] = set()  # functions that return gradients
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Assign) and _is_transform(node.value, functions):
            makers |= _names_in(*node.targets)
    for node in nodes:
        if isinstance(node, ast.Assign) and any(
            creates_graph(n) or _calls_transformed(n, functions, makers)
            for n in ast.walk(node.value)
        ):
            names |= _names_in(*node.targets)
    for node in nodes:
        if isinstance(node, (ast.For, ast.comprehension)):
            names |= _names_from(node, names)
    return names


def _names_from(loop: ast.For | ast.comprehension, names: set[str]) -> set[str]:
    """Returns the variables of a loop that run over some names, as the second of a ``zip``."""
    target, over = loop.target, loop.iter
    pairs = [(target, over)]
    if isinstance(target, ast.Tuple) and isinstance(over, ast.Call) and called_name(over) == "zip":
        pairs = list(zip(target.elts, over.args, strict=False))
    return {n for part, values in pairs if names & _names_in(values) for n in _names_in(part)}


def _names_in(*nodes: ast.AST) -> set[str]:
    return {n.id for node in nodes for n in ast.walk(node) if isinstance(n, ast.Name)}


def _imported_transforms(node: ast.AST) -> Iterator[str]:
    """Yields the names under which ``torch.func.grad`` and the like are imported."""
    if isinstance(node, ast.ImportFrom) and node.module in ("torch.func", "functorch"):
        yield from (alias.asname or alias.name for alias in node.names if alias.name in _TRANSFORMS)


def _is_transform(node: ast.AST, functions: set[str]) -> bool:
    """Returns whether a node makes a function that returns gradients."""
    if not isinstance(node, ast.Call):
        return False
    if isinstance(node.func, ast.Attribute):
        owner = ast.unparse(node.func.value).rpartition(".")[2]
        return node.func.attr in _TRANSFORMS and owner in ("func", "functorch")
    return isinstance(node.func, ast.Name) and node.func.id in functions


def _calls_transformed(node: ast.AST, functions: set[str], makers: set[str]) -> bool:
    """Returns whether a node calls a function that returns gradients."""
    if not isinstance(node, ast.Call):
        return False
    return _is_transform(node.func, functions) or called_name(node) in makers


def _weighted_names(call: ast.Call) -> set[str]:
    """Returns the names in what ``grad`` differentiates, if it is given their gradients, too."""
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    seeds = given.get("grad_outputs") or next(iter(call.args[2:3]), None)
    outputs = given.get("outputs") or next(iter(call.args), None)
    return set() if seeds is None or outputs is None else _names_in(outputs)


def _is_multiple_of(node: ast.AST, names: set[str]) -> bool:
    """Returns whether a node is like ``lr * grad``, which an unrolled step subtracts."""
    return (
        isinstance(node, ast.BinOp)
        and isinstance(node.op, ast.Mult)
        and bool(names & _names_in(node))
    )

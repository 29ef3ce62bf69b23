"""Reads from the source of a program whether it learns data, or only trains networks.

Gradients with ``create_graph=True`` are no sign of distillation alone: gradient penalties,
meta-learning and influence functions ask for them, too. There, every optimiser holds the
parameters of the network that is trained. A distillation updates something else: images, codes,
or another network that makes images.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sdc_ext.injection.syntax import called_name, creates_graph

_OPTIMIZERS = {"ASGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "LARS", "LBFGS", "NAdam"}
_OPTIMIZERS |= {"RAdam", "RMSprop", "Rprop", "SGD"}
_PLAIN = (ast.Name, ast.Attribute)
_FLAT = {"flat_param", "ReparamModule"}  # networks whose parameters are a trajectory's
_OWNER = re.compile(r"([A-Za-z_][\w.]*)(?:\[[^\]]*\])?\.(?:named_)?parameters\(")


@dataclass
class Learning:
    """What the files of a program learn, and what they take gradients with a graph by.

    Attributes:
        trained: The networks whose parameters optimisers hold, by name.
        differentiated: The networks whose parameters gradients with a graph are taken by.
        others: The number of optimisers that hold something else, or something unknown.
    """

    trained: set[str] = field(default_factory=set)
    differentiated: set[str] = field(default_factory=set)
    others: int = 0

    @property
    def only_networks(self) -> bool:
        """Whether every optimiser holds the parameters of the network that is differentiated."""
        elsewhere = self.differentiated and self.trained - self.differentiated
        return bool(self.trained) and not self.others and not elsewhere


def only_trains_networks(programs: Iterable[Sequence[ast.AST]]) -> bool:
    """Returns whether a program trains networks and learns no data.

    Args:
        programs: All nodes of each of its files.
    """
    found = Learning()
    for nodes in programs:
        _add(found, nodes)
    return found.only_networks


def lines_that_learn(nodes: Sequence[ast.AST]) -> list[int]:
    """Returns the lines of a file where tensors with ``requires_grad=True`` are to be learnt.

    These make an optimiser of a list of such tensors, or are classes of such tensors that have
    ``parameters`` and are no networks.
    """
    values = _assigned(nodes)
    makers = {name for name, found in values.items() if any(map(_requires_grad, found))}
    lines: list[int] = []
    for node in nodes:
        held = _held(node)
        if isinstance(node, ast.ClassDef) and _is_own_collection(node) and _requires_grad(node):
            lines.append(node.lineno)
        elif isinstance(held, (ast.List, ast.Tuple)) and isinstance(node, ast.Call):
            plain = [element for element in held.elts if isinstance(element, _PLAIN)]
            if makers & {name for element in plain for name in _names(element)}:
                lines.append(node.lineno)
    return lines


def _requires_grad(node: ast.AST) -> bool:
    """Returns whether an expression makes a tensor with ``requires_grad=True``."""
    calls = [n for n in ast.walk(node) if isinstance(n, ast.Call)]
    setters = [call for call in calls if called_name(call) == "requires_grad_"]
    given = [k.value for call in calls for k in call.keywords if k.arg == "requires_grad"]
    given += [argument for call in setters for argument in call.args[:1]]
    bare = any(not (call.args or call.keywords) for call in setters)
    return bare or any(isinstance(g, ast.Constant) and g.value is True for g in given)


def _add(found: Learning, nodes: Sequence[ast.AST]) -> None:
    values = _assigned(nodes)
    captured = [by for node in nodes if (by := _captured_by(node)) is not None]
    names = _with_aliases({name for by in captured for name in _names(by)}, values)
    for by in captured:
        found.differentiated |= _owners(by, values)
    for node in nodes:
        if _is_own_collection(node) or has_flat_parameters(node):
            found.others += 1
        held = _held(node)
        if held is None:
            continue
        owners = _owners(held, values)
        found.trained |= owners
        if not owners and _names(held) & names:  # the weights that gradients are taken by
            found.trained |= names
            found.differentiated |= names
        elif not owners and not _calls_own_parameters(held):
            found.others += 1


def _assigned(nodes: Sequence[ast.AST]) -> dict[str, list[ast.AST]]:
    """Returns the values that a file assigns to each name."""
    values: dict[str, list[ast.AST]] = {}
    for node in nodes:
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            targets, value = [node.target], node.value
        for target in targets:
            for name in _names(target):
                values.setdefault(name, []).append(value)
    return values


def _with_aliases(names: set[str], values: dict[str, list[ast.AST]]) -> set[str]:
    """Adds the names of variables that are assigned to these as they are."""
    while True:
        plain = (v for n in names for v in values.get(n, []) if isinstance(v, _PLAIN))
        more = {name for value in plain for name in _names(value)} - names
        if not more:
            return names
        names = names | more


def _captured_by(node: ast.AST) -> ast.AST | None:
    """Returns what a call takes a gradient with a graph by; None for any other node."""
    if not isinstance(node, ast.Call) or called_name(node) != "grad" or not creates_graph(node):
        return None
    return next(iter(node.args[1:2]), None) or _keyword(node, "inputs")


def _held(node: ast.AST) -> ast.AST | None:
    """Returns what an optimiser is made of; None for any other node."""
    if not isinstance(node, ast.Call) or called_name(node) not in _OPTIMIZERS:
        return None
    return next(iter(node.args), None) or _keyword(node, "params")


def _keyword(call: ast.Call, name: str) -> ast.AST | None:
    return next((k.value for k in call.keywords if k.arg == name), None)


def _owners(node: ast.AST, values: dict[str, list[ast.AST]], depth: int = 3) -> set[str]:
    """Returns the networks whose parameters an expression is made of, by their first names."""
    text = ast.unparse(node)
    found = {_first(owner) for owner in _OWNER.findall(text)}
    if found or not depth:
        return found - {""}
    inner = [v for name in _names(node) for v in values.get(name, []) if v is not node]
    return {owner for value in inner for owner in _owners(value, values, depth - 1)}


def _first(owner: str) -> str:
    return owner.removeprefix("self.").partition(".")[0].removeprefix("self")


def _calls_own_parameters(node: ast.AST) -> bool:
    return "self.parameters()" in ast.unparse(node)


def _is_own_collection(node: ast.AST) -> bool:
    """Returns whether a class that is no network has parameters, as IDC's synthetic set does."""
    if not isinstance(node, ast.ClassDef) or any("Module" in ast.unparse(b) for b in node.bases):
        return False
    return any(isinstance(n, ast.FunctionDef) and n.name == "parameters" for n in node.body)


def has_flat_parameters(node: ast.AST) -> bool:
    """Returns whether a call passes a network flat parameters, as trajectory matching does."""
    if not isinstance(node, ast.Call):
        return False
    return called_name(node) in _FLAT or any(k.arg in _FLAT for k in node.keywords)


def _names(node: ast.AST) -> set[str]:
    """Returns the last names of the variables in an expression; of a.b.c, that is c."""
    if isinstance(node, ast.Attribute):
        return {node.attr}
    if isinstance(node, ast.Name):
        return {node.id}
    return {name for child in ast.iter_child_nodes(node) for name in _names(child)}

"""Small questions about nodes of a program's source."""

from __future__ import annotations

import ast


def called_name(node: ast.AST) -> str:
    """Returns the last name of the function that a node calls; "" for anything else."""
    if not isinstance(node, ast.Call):
        return ""
    if isinstance(node.func, ast.Attribute):
        return node.func.attr
    return node.func.id if isinstance(node.func, ast.Name) else ""


def creates_graph(node: ast.AST) -> bool:
    """Returns whether a node asks for a gradient with a graph."""
    if not isinstance(node, ast.Call):
        return False
    given = [keyword.value for keyword in node.keywords if keyword.arg == "create_graph"]
    if called_name(node) == "grad":
        given += node.args[4:5]
    return any(not (isinstance(g, ast.Constant) and not g.value) for g in given)

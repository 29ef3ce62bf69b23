"""Searches the graphs that autograd has recorded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

# In truth torch.autograd.graph.Node, but torch gives its methods no types.
Node: TypeAlias = Any


def are_wrapped(tensors: Sequence[Tensor]) -> bool:
    """Returns whether tensors are valid inside a transform of ``torch.func`` only."""
    wrapped = torch._C._functorch
    return any(
        wrapped.is_functorch_wrapped_tensor(t) or wrapped.is_legacy_batchedtensor(t)
        for t in tensors
    )


def nodes_of(tensors: Sequence[Tensor]) -> Iterator[Node]:
    """Yields every node that the tensors depend on, their own first."""
    stack = [t.grad_fn for t in tensors if t.grad_fn is not None]
    seen = set(stack)
    while stack:
        node = stack.pop()
        yield node
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                stack.append(following)


def leaves_of(tensors: Sequence[Tensor]) -> Iterator[Tensor]:
    """Yields every leaf tensor that the tensors depend on and can be differentiated by."""
    leaves = (getattr(node, "variable", None) for node in nodes_of(tensors))
    return (leaf for leaf in leaves if leaf is not None)


def depends_on(tensors: Sequence[Tensor], groups: Sequence[set[Node]]) -> list[bool]:
    """Returns for each group of nodes whether the tensors depend on one of them."""
    of_node: dict[Node, list[int]] = {}
    for k, group in enumerate(groups):
        for node in group:
            of_node.setdefault(node, []).append(k)
    waiting = {k for k, group in enumerate(groups) if group}
    for node in nodes_of(tensors) if waiting else ():
        waiting.difference_update(of_node.get(node, ()))
        if not waiting:
            break
    return [bool(group) and k not in waiting for k, group in enumerate(groups)]

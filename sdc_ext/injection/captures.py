"""A captured gradient: that of a loss on a synthetic batch, with its graph."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.utils.weak import TensorWeakRef

from sdc_ext._graphs import Node, depends_on, leaves_of, nodes_of
from sdc_ext.injection.learnt import By, Roles
from sdc_ext.regularizer import gradient_norm

NO_PROFILE = "no profile fits such a loop, so wrap its matching loss in with_sdc"


@dataclass(eq=False)
class Capture:
    """The gradient of a loss on a synthetic batch, with its graph.

    Attributes:
        gradients: One tensor per parameter.
        by: Weak references to the tensors that the loss was differentiated by.
        leaf: Whether these are a network's parameters and not the results of inner steps.
        role: What these are.
        factor: The factor by which the loop has multiplied the loss; None for 1.
        graph: Whether the norm is to be differentiated.
        used_only: Whether these are the gradients of all leaves, as ``backward`` leaves them, of
            which only those count that a loss uses.
        served: The tensors by which the term of this gradient has been asked for.
        made_by: The node of the graph that made each gradient.
    """

    gradients: list[Tensor]
    by: list[TensorWeakRef]
    leaf: bool
    role: By
    factor: Tensor | None
    graph: bool
    used_only: bool = False
    served: list[Tensor] = field(default_factory=list)
    made_by: list[Node] = field(default_factory=list)

    def __post_init__(self) -> None:
        # At once, since a loop may change its gradients in place. Those of later inner steps are
        # not copied: they are many, and the steps go on with them.
        self._kept = self.gradients
        if not self.made_by:  # or it is a part of another capture, which has copied them
            self.made_by = [g.grad_fn for g in self.gradients]
            if self.used_only or (self.graph and self.leaf):
                with torch.enable_grad():
                    self._kept = [g.clone() for g in self.gradients]
        if not self.used_only:
            _ = self.norm

    @cached_property
    def norm(self) -> Tensor:
        """The L2 norm of the loss's own gradient, a scalar."""
        with torch.set_grad_enabled(self.graph):
            norm = gradient_norm(self._kept)
            return norm if self.factor is None else norm / self.factor

    @property
    def first(self) -> Tensor | None:
        """The first tensor that the loss was differentiated by; None if it no longer exists."""
        first: Tensor | None = self.by[0]()
        return first

    @property
    def weights(self) -> list[Tensor]:
        """The tensors that the loss was differentiated by, as far as they exist."""
        return [weight for ref in self.by if (weight := ref()) is not None]

    @property
    def nodes(self) -> set[Node]:
        """The nodes of the graph that made the gradients, also as they are after changes."""
        return {*self.made_by, *(g.grad_fn for g in self.gradients)} - {None}

    @property
    def of_module(self) -> bool:
        """Whether the gradient is by the parameters of a module."""
        return all(isinstance(weight, Parameter) for weight in self.weights)

    def used_by(self, roots: Sequence[Tensor]) -> Capture:
        """Returns the part of the gradient that counts for a loss which depends on it."""
        if not self.used_only:
            return self
        flags = depends_on(roots, [{node} for node in self.made_by])
        used = [k for k, flag in enumerate(flags) if flag]
        gradients, by = [self._kept[k] for k in used], [self.by[k] for k in used]
        weights = [weight for ref in by if (weight := ref()) is not None]
        return replace(
            self,
            gradients=gradients,
            by=by,
            role=By.of(weights, roots),
            used_only=False,
            made_by=[self.made_by[k] for k in used],
        )

    def is_by_any(self, tensors: Sequence[Tensor]) -> bool:
        """Returns whether the loss was differentiated by one of these very tensors."""
        return any(weight is tensor for weight in self.weights for tensor in tensors)

    def depends_on(self, tensors: Sequence[Tensor]) -> bool:
        """Returns whether the gradient depends on one of these tensors."""
        leaves = {id(t) for t in tensors if t.is_leaf}
        made = {t.grad_fn for t in tensors if not t.is_leaf}
        return any(
            node in made or id(getattr(node, "variable", None)) in leaves
            for node in nodes_of(self.gradients)
        )


class Released:
    """A captured gradient whose graph lives only as long as the loop itself holds the gradient."""

    def __init__(self, capture: Capture) -> None:
        self._by, self._leaf, self._role = capture.by, capture.leaf, capture.role
        self._factor, self._graph = capture.factor, capture.graph
        self._gradients = [TensorWeakRef(gradient) for gradient in capture.gradients]

    def holds(self, identities: Container[int]) -> bool:
        """Returns whether one of the gradients has one of these identities."""
        return any(id(ref()) in identities for ref in self._gradients)

    def recalled(self) -> Capture | None:
        """Returns the gradient; None if the loop no longer holds it."""
        held = [gradient for ref in self._gradients if (gradient := ref()) is not None]
        if len(held) < len(self._gradients):
            return None
        return Capture(held, self._by, self._leaf, self._role, self._factor, self._graph)


def of_one_network(captures: Sequence[Capture]) -> bool:
    """Returns whether gradients are by the same network's parameters, and not by inner steps'."""
    network = captures[0].first
    same = network is not None and all(c.is_by_any([network]) for c in captures)
    return same and all(c.leaf for c in captures)


def advice(*, one_network: bool, joint: bool, steps_known: bool = False) -> str:
    """Says which profile fits a loop, by what an image step has shown.

    Args:
        one_network: Whether all gradients are by the same parameters; otherwise they are those of
            inner steps.
        joint: Whether a pass differentiates several of them together.
        steps_known: Whether an earlier pass went through the same inner steps, so that their
            number is known before they are corrected one by one.
    """
    if one_network:
        return "use the profile 'gm'"
    if joint:
        return "use the profile 'tm'"
    return "use the profile 'tesla'" if steps_known else NO_PROFILE


def learnt_by(
    roles: Roles, captures: Sequence[Capture], inputs: Sequence[Tensor] | None
) -> tuple[list[Capture], list[Tensor]]:
    """Returns the gradients that depend on learnt data, and this data.

    Args:
        roles: The roles of the loop's tensors.
        captures: The captured gradients that a loss depends on, at least one.
        inputs: The tensors by which the loop asks for gradients; None for all leaves.
    """
    gradients = [gradient for capture in captures for gradient in capture.gradients]
    targets = leaves_of(gradients) if inputs is None else inputs
    learnt = roles.learnt([*targets], *joint(captures), asked=inputs is not None)
    if not learnt:
        return [], []
    return [c for c in captures if c.depends_on(learnt)], learnt


def joint(captures: Sequence[Capture]) -> tuple[list[Tensor], By]:
    """Returns what several gradients are by, and what that is."""
    by = [weight for capture in captures for weight in capture.weights]
    return by, max((capture.role for capture in captures), key=lambda role: role.value)

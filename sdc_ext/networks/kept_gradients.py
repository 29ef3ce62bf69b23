"""Keeps what differentiates a gradient again: its whole graph, or the costly results in it.

Of the graph of a ConvNet's gradient, the results of convolutions are a third of the memory and
three fifths of the time. The rest is cheap to compute from them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

_aten = torch.ops.aten
# The operations whose results are costly.
COSTLY = {
    _aten.convolution.default,
    _aten.convolution_backward.default,
    _aten.mm.default,
    _aten.addmm.default,
    _aten.bmm.default,
    _aten.baddbmm.default,
}

# The derivatives of <u, g> by images, by labels if they are probabilities, and by theta.
Product: TypeAlias = tuple[Tensor, Tensor | None, Tensor | None]


class KeptBytes(NamedTuple):
    """The memory in bytes of one gradient that is kept.

    Attributes:
        whole: The memory of its graph.
        results: The memory of its costly results.
    """

    whole: int
    results: int


class GradientGraph:
    """The gradient of a batch's summed loss, with the graph that differentiates it once more.

    Args:
        g: The gradient (P,) with its graph.
        wanted: The images; the labels if they are probabilities; and theta.

    Attributes:
        gradient: The gradient g (P,), detached.
    """

    def __init__(self, g: Tensor, wanted: Sequence[Tensor]) -> None:
        self.gradient = g.detach()
        self._g, self._wanted = g, wanted

    def product(self, u: Tensor, *, hessian: bool) -> Product:
        """Differentiates ``<u, g>`` for a constant vector u (P,), which frees the graph.

        Args:
            u: The vector (P,).
            hessian: Whether to differentiate by theta.

        Returns:
            See ``FunctionalNetwork.gradient_product``.
        """
        wanted = self._wanted if hessian else self._wanted[:-1]
        found = list(torch.autograd.grad(self._g, wanted, u, materialize_grads=True))
        by_theta = found.pop() if hessian else None
        return found[0], found[1] if len(found) > 1 else None, by_theta


class CostlyResults:
    """The gradient of a batch's summed loss, with the costly results from which to differentiate.

    Args:
        make: Computes the gradient with its graph. Two calls perform the same operations.

    Attributes:
        gradient: The gradient g (P,), detached.
    """

    def __init__(self, make: Callable[[], GradientGraph]) -> None:
        self._make = make
        with _Recording() as recording:
            self.gradient = make().gradient
        self._results = recording.results

    def product(self, u: Tensor, *, hessian: bool) -> Product:
        """As that of ``GradientGraph``; it computes the graph anew, but for the costly results."""
        with _Replaying(self._results):
            graph = self._make()
        return graph.product(u, hessian=hessian)


KeptGradient: TypeAlias = GradientGraph | CostlyResults


def measure(make: Callable[[], GradientGraph], inputs: Sequence[Tensor]) -> KeptBytes:
    """Computes a gradient and counts what keeping it takes, the same numbers on all devices.

    Args:
        make: Computes the gradient with its graph.
        inputs: The tensors from which it does so. They may be parts of larger ones.
    """
    saved: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        saved.update(_storage(tensor))
        return tensor

    with saved_tensors_hooks(count, lambda tensor: tensor), _Recording() as recording:
        gradient = make().gradient
    found = [result for _, result in recording.results]
    results = {k: v for tensor in _tensors(found) for k, v in _storage(tensor).items()}
    own = {tensor.untyped_storage().data_ptr(): tensor.nbytes for tensor in (*inputs, gradient)}
    return KeptBytes(*(sum((sizes | own).values()) for sizes in (saved, results)))


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _storage(tensor: Tensor) -> Mapping[int, int]:
    storage = tensor.untyped_storage()
    return {storage.data_ptr(): storage.nbytes()}


class _Recording(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records the results of costly operations in order; None where one was overwritten."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.results: list[tuple[Any, Any]] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        if function._schema.is_mutable:
            self._forget(_tensors((args, kwargs)))
        if function in COSTLY:
            # Detached, because autograd attaches its graph to the result itself.
            self.results.append((function, tree_map_only(Tensor, Tensor.detach, result)))
        return result

    def _forget(self, arguments: Sequence[Tensor]) -> None:
        written = {key for tensor in arguments for key in _storage(tensor)}
        for index, (function, result) in enumerate(self.results):
            if any(key in written for tensor in _tensors(result) for key in _storage(tensor)):
                self.results[index] = (function, None)


class _Replaying(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Returns recorded results in place of computing them, and forgets them."""

    def __init__(self, results: list[tuple[Any, Any]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._results = results

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function in COSTLY and self._results:
            recorded, result = self._results.pop(0)
            if recorded is not function:
                self._results.clear()  # not the same operations after all
            elif result is not None:
                return result
        return function(*args, **(kwargs or {}))

"""Observes which networks a loop calls on its synthetic images."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    _forward_unimplemented,
    register_module_forward_hook,
    register_module_forward_pre_hook,
)

from sdc_ext._graphs import depends_on, leaves_of
from sdc_ext.injection.learnt import By, Roles
from sdc_ext.injection.patches import Patches


@dataclass(frozen=True, eq=False)
class Call:
    """A call of a network on a synthetic batch.

    Attributes:
        network: The whole network, of which the loop may have called only a part.
        batch: The batch (B, C, H, W), as it is after decoding and augmentation.
        source: The synthetic images (N, ...) that the batch is made from.
    """

    network: nn.Module
    batch: Tensor
    source: Tensor

    def leads_to(self, tensors: Sequence[Tensor]) -> bool:
        """Returns whether tensors are or depend on the batch."""
        if any(tensor is self.batch for tensor in tensors):
            return True
        if self.batch.is_leaf:
            return any(leaf is self.batch for leaf in leaves_of(tensors))
        return depends_on(tensors, [{self.batch.grad_fn}])[0]


class ForwardCalls:
    """The calls on synthetic batches that no backward pass has used yet.

    Args:
        roles: What is learnt, and what are weights.
    """

    def __init__(self, roles: Roles) -> None:
        self._roles = roles
        self._waiting: list[Call] = []
        self._depth = 0
        self._networks: WeakKeyDictionary[nn.Module, weakref.ref[nn.Module]] = WeakKeyDictionary()

    def watch(self, patches: Patches) -> None:
        """Observes the calls of all modules until the patches are undone."""
        patches.add(register_module_forward_pre_hook(self._enter).remove)
        patches.add(register_module_forward_hook(self._leave, always_call=True).remove)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Observes nothing inside the block."""
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1

    def take(self, roots: Sequence[Tensor]) -> list[Call]:
        """Returns the calls that the roots depend on, and forgets them."""
        used = [call for call in self._waiting if call.leads_to(roots)]
        self._waiting = [call for call in self._waiting if call not in used]
        return used

    def drop(self) -> None:
        """Forgets all calls."""
        self._waiting = []

    def _enter(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        self._depth += 1
        if self._depth == 1 and torch.is_grad_enabled():
            batch = next(iter(args), None)
            if isinstance(batch, Tensor) and batch.requires_grad:
                self._note(module, batch)

    def _leave(self, *_: Any) -> None:
        self._depth -= 1

    def _note(self, module: nn.Module, batch: Tensor) -> None:
        leaves = [batch] if batch.is_leaf else list(leaves_of([batch]))
        learnt = [t for t in leaves if self._roles.may_be_learnt(t, By.LEAVES)]
        source = self._roles.images([t for t in learnt if t.ndim > 1])
        network = self._network_of(module) if source else None
        if network is None:
            return
        # A loop that calls the layers one by one begins with the images.
        if not any(c.network is network and c.leads_to([batch]) for c in self._waiting):
            self._waiting.append(Call(network, batch, source[0]))

    def _network_of(self, module: nn.Module) -> nn.Module | None:
        """Returns the network that a called module belongs to; None for one without weights."""
        if next(module.parameters(), None) is None:
            return None
        known = self._networks.get(module)
        network = None if known is None else known()
        if network is None:
            network = _largest_around(module, sys._getframe(2))
            self._networks[module] = weakref.ref(network)
        return network


def _largest_around(module: nn.Module, frame: FrameType | None) -> nn.Module:
    """Returns the largest network with a module among the variables of the calling functions."""
    best, size = module, 0
    while frame is not None:
        for value in frame.f_locals.values():
            if not isinstance(value, nn.Module) or type(value).forward is _forward_unimplemented:
                continue
            modules = list(value.modules())
            if len(modules) > size and any(m is module for m in modules):
                best, size = value, len(modules)
        frame = frame.f_back
    return best

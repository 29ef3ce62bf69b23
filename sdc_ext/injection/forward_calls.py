"""Observes which networks a loop calls on its synthetic images."""

from __future__ import annotations

import copy
import functools
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _forward_unimplemented
from torch.utils.weak import WeakIdKeyDictionary

from sdc_ext._graphs import leaves_of, nodes_of
from sdc_ext.injection.labels import labels_in_sight
from sdc_ext.injection.learnt import By, Roles
from sdc_ext.injection.patches import Patches
from sdc_ext.injection.waiting import Waiting


@dataclass(frozen=True, eq=False)
class Call:
    """A call of a network on a synthetic batch.

    Attributes:
        networks: The called module and the larger networks around it, the smallest first.
        weights: The parameters of the called module.
        modes: Whether the modules of the largest network were in training mode, by identity.
        batch: The batch (B, C, H, W), as it is after decoding and augmentation.
        sources: The learnt tensors that the batch is made from: images, or codes.
        labels: What may be the labels of a single source.
        nodes: The numbers of the first node of the graph that the call made, and of the first
            one after it.
    """

    networks: tuple[nn.Module, ...]
    weights: tuple[Tensor, ...]
    modes: dict[int, bool]
    batch: Tensor
    sources: tuple[Tensor, ...]
    labels: list[Tensor]
    nodes: range

    def leads_to(self, numbers: Sequence[int]) -> bool:
        """Returns whether the nodes of a graph are among those that the call made."""
        return any(number in self.nodes for number in numbers)

    @property
    def has_its_weights(self) -> bool:
        """Whether the called module still has the parameters that it was called with."""
        now = tuple(self.networks[0].parameters())
        return [*map(id, now)] == [*map(id, self.weights)]

    def copied(self, network: nn.Module) -> nn.Module:
        """Returns one of its networks as it was called; all of its weights get gradients.

        It has the hooks that compute weights before a call, but none of those that observe it:
        what they hold, such as activations, need not be anything that can be copied.
        """
        kinds = ("_forward_hooks", "_backward_hooks", "_backward_pre_hooks")
        hooks = [getattr(module, kind) for module in network.modules() for kind in kinds]
        copied = copy.deepcopy(network, {id(found): OrderedDict() for found in hooks})
        for module, original in zip(copied.modules(), network.modules(), strict=True):
            module.training = self.modes.get(id(original), module.training)
        return copied.requires_grad_()

    def is_made_from(self, tensors: Sequence[Tensor]) -> bool:
        """Returns whether one of some tensors is the batch, or what it is made from."""
        return any(t is known for t in tensors for known in (self.batch, *self.sources))


class ForwardCalls:
    """The calls on synthetic batches that no backward pass has used yet.

    Args:
        roles: What is learnt, and what are weights.
    """

    def __init__(self, roles: Roles) -> None:
        self._roles = roles
        self._waiting: Waiting[Call] = Waiting()
        self._labels: Any = WeakIdKeyDictionary()  # those of learnt tensors, once identified
        self._inside = threading.local()

    def watch(self, patches: Patches) -> None:
        """Observes the calls of all modules until the patches are undone."""
        patches.wrap(nn.Module, "__call__", self._watch_call)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Observes nothing inside the block."""
        outer = getattr(self._inside, "a_call", False)
        self._inside.a_call = True
        try:
            yield
        finally:
            self._inside.a_call = outer

    def take(self, roots: Sequence[Tensor], inputs: Sequence[Tensor] | None) -> list[Call]:
        """Returns the calls that a backward pass goes through, and forgets them.

        Args:
            roots: What is differentiated.
            inputs: What it is differentiated by; None for all leaves.
        """
        if not self._waiting:
            return []
        numbers = _numbers(roots)
        used = [
            call
            for call in self._waiting
            if (inputs is None or call.is_made_from(inputs)) and call.leads_to(numbers)
        ]
        self._waiting[:] = [call for call in self._waiting if call not in used]
        return used

    def note_labels(self, source: Tensor, labels: Tensor) -> None:
        """Notes the labels of a learnt tensor, which are preferred in further calls."""
        self._labels[source] = labels.clone()

    def drop(self) -> None:
        """Forgets all calls."""
        self._waiting.drop()

    def release(self) -> None:
        """Forgets all calls with the next one, until when further losses may use them."""
        self._waiting.release()

    def _watch_call(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            # What a module calls inside is part of it.
            if getattr(self._inside, "a_call", False) or not torch.is_grad_enabled():
                return original(module, *args, **kwargs)
            with self.paused():
                first = _next_number()
                outputs = original(module, *args, **kwargs)
                batch = next((v for v in (*args, *kwargs.values()) if isinstance(v, Tensor)), None)
                if batch is not None and batch.requires_grad:
                    self._note(module, batch, range(first, _next_number()))
            return outputs

        return call

    def _note(self, module: nn.Module, batch: Tensor, nodes: range) -> None:
        leaves = [batch] if batch.is_leaf else list(leaves_of([batch]))
        learnt = [t for t in leaves if self._roles.may_be_learnt(t, By.LEAVES) and t.ndim > 1]
        if not learnt or next(module.parameters(), None) is None:
            return
        frame = sys._getframe(1)
        networks = _networks_around(module, frame)
        if self._waiting.are_late:
            self.drop()
        # A loop that calls the layers one by one begins with the images.
        numbers = _numbers([batch])
        if any(c.networks[-1] is networks[-1] and c.leads_to(numbers) for c in self._waiting):
            return
        sources = tuple(self._roles.images(learnt))
        labels = labels_in_sight(frame, sources[0], self._labels.get(sources[0]))
        weights = tuple(module.parameters())
        modes = {id(m): m.training for m in networks[-1].modules()}
        self._waiting.append(Call(networks, weights, modes, batch, sources, labels, nodes))


def _next_number() -> int:
    """Returns the number of a node that is made now; later ones have higher numbers."""
    number: int = torch.zeros((), requires_grad=True).clone().grad_fn._sequence_nr()  # type: ignore[union-attr]
    return number


def _numbers(tensors: Sequence[Tensor]) -> list[int]:
    return [node._sequence_nr() for node in nodes_of(tensors)]


def _networks_around(module: nn.Module, frame: FrameType | None) -> tuple[nn.Module, ...]:
    """Returns the networks with a module among the variables of the calling functions."""
    found = {id(module): (len(list(module.modules())), module)}
    while frame is not None:
        for value in frame.f_locals.values():
            if isinstance(value, nn.Module) and _is_around(value, module):
                found[id(value)] = (len(list(value.modules())), value)
        frame = frame.f_back
    return tuple(network for _, network in sorted(found.values(), key=lambda pair: pair[0]))


def _is_around(network: nn.Module, module: nn.Module) -> bool:
    can_be_called = getattr(type(network), "forward", None) is not _forward_unimplemented
    return can_be_called and any(inner is module for inner in network.modules())

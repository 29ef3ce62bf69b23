"""Tells what a loop learns from a network's weights, by how the loop uses its tensors.

A loss made of captured gradients flows to leaves of its graph, or to the tensors that the loop
asks for. What is learnt is what is left of these without the networks' weights: images, labels,
latent codes, factors, the parameters of a decoder, of any rank and number. Weights are what losses
are differentiated by, and whatever an optimiser updates along with them.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from enum import Enum
from typing import Any
from weakref import WeakSet

from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.utils.weak import WeakIdKeyDictionary

from sdc_ext._graphs import leaves_of


class Roles:
    """The roles of the tensors that a loop has shown so far; no tensor is kept alive."""

    def __init__(self) -> None:
        self._weights: Any = WeakIdKeyDictionary()
        self._learnt: Any = WeakIdKeyDictionary()  # what got a term
        self._holders: Any = WeakIdKeyDictionary()  # weak references to optimisers, by tensor
        self._optimizers: WeakSet[Optimizer] = WeakSet()
        self._corrected: WeakSet[Optimizer] = WeakSet()  # those with a term since their last step
        self._networks: WeakSet[Optimizer] = WeakSet()
        self._has_learnt = False
        self._late: WeakSet[Optimizer] = WeakSet()  # made after something was learnt

    def register(self, optimizer: Optimizer) -> None:
        """Notes which tensors an optimiser updates; it is called again if it gets further ones."""
        updated = tensors_of(optimizer)
        if self._has_learnt and optimizer not in self._optimizers:
            self._late.add(optimizer)
        self._optimizers.add(optimizer)
        for tensor in updated:
            others = [held for held in self._holders_of(tensor) if held is not optimizer]
            self._holders[tensor] = [weakref.ref(held) for held in (*others, optimizer)]
        if any(tensor in self._weights for tensor in updated):
            self._networks.add(optimizer)

    def holder(self, tensor: Tensor) -> Optimizer | None:
        """Returns the newest optimiser that updates a tensor; None if none is known."""
        return next(reversed(self._holders_of(tensor)), None)

    def _holders_of(self, tensor: Tensor) -> list[Optimizer]:
        """Returns the optimisers that update a tensor, the newest last."""
        return [held for ref in self._holders.get(tensor, ()) if (held := ref()) is not None]

    def note_weights(self, by: Sequence[Tensor]) -> None:
        """Notes a network's weights, by which a loss was differentiated."""
        for tensor in by:
            if tensor in self._learnt:
                continue
            self._weights[tensor] = True
            holder = self.holder(tensor)
            if holder is not None:
                self._networks.add(holder)

    def note_learnt(self, tensors: Sequence[Tensor]) -> None:
        """Notes tensors that a corrected loss flows to, and by what they are updated."""
        self._has_learnt = True
        for tensor in [*tensors, *self.updated(tensors)]:
            self._learnt[tensor] = True
        holders = [self._holders_of(leaf) for leaf in _leaves(tensors)]
        to_any = not all(holders)  # without an optimiser, a gradient may flow on by hand
        self._corrected.update(
            optimizer
            for optimizer in self._optimizers
            if to_any
            or any(optimizer in held for held in holders)
            or not self.updates_learnt(optimizer)
        )

    def is_corrected(self, optimizer: Optimizer) -> bool:
        """Returns whether a term may have gone to an optimiser's tensors since its last step."""
        # A copied optimiser has shown nothing of what it updates.
        unknown = self._has_learnt and optimizer not in self._optimizers
        return unknown or optimizer in self._corrected

    def note_step(self, optimizer: Optimizer) -> None:
        """Notes that an optimiser has made a step."""
        self._corrected.discard(optimizer)

    def is_weight(self, tensor: Tensor) -> bool:
        """Returns whether a tensor is known as a network's weight."""
        return tensor in self._weights or self.holder(tensor) in self._networks

    def are_new(self, updated: Sequence[Tensor]) -> bool:
        """Returns whether tensors, each with an optimiser, take the place of what was learnt."""
        return bool(updated) and all(
            tensor not in self._learnt and self.holder(tensor) in self._late for tensor in updated
        )

    def may_be_learnt(self, tensor: Tensor, by: By, *, asked: bool = False) -> bool:
        """Returns whether a tensor that a captured gradient flows to may be learnt data.

        Args:
            tensor: The tensor, which the gradient is not by.
            by: What the gradient is by. A penalty on the gradient by a batch (WGAN-GP, R1) flows
                to a network's parameters, as the gradient by a network's weights flows to those
                of a decoder.
            asked: Whether the loop asks for the gradient by this very tensor.
        """
        if self.is_weight(tensor) or (tensor.ndim == 0 and not (asked and by is By.WEIGHTS)):
            return False
        if by is By.WEIGHTS or tensor in self._learnt:
            return True
        holder = self.holder(tensor)
        if isinstance(tensor, Parameter):
            return holder is not None and any(tensor is t for t in images_of(holder))
        return asked or holder is not None or (by is By.LEAVES and tensor.ndim > 1)

    def learnt(
        self, targets: Sequence[Tensor], weights: Sequence[Tensor], by: By, *, asked: bool
    ) -> list[Tensor]:
        """Returns what is learnt among the tensors that a backward pass flows to.

        Parameters that no optimiser updates are learnt only if nothing else is: a loop may
        capture the gradient by some of a network's weights only, as by its last layer.
        """
        known = {id(tensor) for tensor in weights}
        found = [
            t for t in targets if id(t) not in known and self.may_be_learnt(t, by, asked=asked)
        ]
        updated = [
            t
            for t in found
            if not isinstance(t, Parameter) or t in self._learnt or self.holder(t) is not None
        ]
        return updated or found

    def updated(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Returns those of the tensors, or of the leaves they are made from, that are updated."""
        return [t for t in _leaves(tensors) if self.holder(t) is not None and not self.is_weight(t)]

    def images(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Returns those of the learnt tensors that the share is measured by.

        Labels and step sizes do not count beside images. So these are the tensors of at least
        three dimensions; or else those of two, such as latent codes; or else all. What an
        optimiser updates goes first.
        """
        updated = [t for t in tensors if self.holder(t) is not None]
        for dimensions in (3, 2, 0):
            for pool in (updated, tensors):
                found = [t for t in pool if t.ndim >= dimensions]
                if found:
                    return found
        return []

    def updates_learnt(self, optimizer: Optimizer) -> bool:
        """Returns whether an optimiser is known to update learnt tensors, or images at least."""
        known = any(tensor in self._learnt for tensor in tensors_of(optimizer))
        return known or (optimizer not in self._networks and bool(images_of(optimizer)))

    def may_update_learnt(self, optimizer: Optimizer, *, rates: bool = False) -> bool:
        """Returns whether an optimiser updates tensors that belong to no module.

        Args:
            optimizer: The optimiser.
            rates: Whether single numbers count, such as a learning rate.
        """
        return optimizer not in self._networks and any(
            (rates or tensor.ndim > 0) and not isinstance(tensor, Parameter)
            for tensor in tensors_of(optimizer)
        )


class By(Enum):
    """What a loss is differentiated by: evidently weights, or else leaves, or what others made."""

    WEIGHTS = 3
    LEAVES = 2
    OTHERS = 1

    @classmethod
    def of(cls, by: Sequence[Tensor], roots: Sequence[Tensor]) -> By:
        """Returns what some tensors are by which roots are differentiated.

        Evidently a network's weights are parameters of modules, a single flat vector, and tensors
        whose first dimensions differ. Tensors of a batch have the same first dimension, and a
        single number is a dummy weight, as in invariant risk minimisation.
        """
        several = sum(tensor.numel() for tensor in by) > 1
        scalar = all(root.numel() == 1 for root in roots)
        flat = len(by) == 1 and by[0].ndim == 1 and scalar
        differ = len({tensor.shape[:1] for tensor in by}) > 1
        if several and (flat or differ or any(isinstance(tensor, Parameter) for tensor in by)):
            return cls.WEIGHTS
        return cls.LEAVES if all(tensor.is_leaf for tensor in by) else cls.OTHERS


def _leaves(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [*(t for t in tensors if t.is_leaf), *leaves_of(tensors)]


def tensors_of(optimizer: Optimizer) -> list[Tensor]:
    """Returns the tensors that an optimiser updates."""
    return [tensor for group in optimizer.param_groups for tensor in group["params"]]


def images_of(optimizer: Optimizer) -> list[Tensor]:
    """Returns the synthetic images that an optimiser updates; none for a network's optimiser.

    An optimiser of images holds at most labels and a learning rate besides them, whereas a
    network has more tensors.
    """
    updated = tensors_of(optimizer)
    return [t for t in updated if t.ndim > 2] if len(updated) <= 3 else []

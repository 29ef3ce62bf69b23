"""Corrects loops that match features, which never ask for a gradient by weights, as DM does."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.weak import TensorWeakRef

from sdc_ext._words import number_of
from sdc_ext.injection.captures import Capture, advice, of_one_network
from sdc_ext.injection.corrections import BackwardCorrection
from sdc_ext.injection.forward_calls import Call, ForwardCalls
from sdc_ext.injection.labels import labels_in_sight, traced
from sdc_ext.injection.learnt import By, Roles
from sdc_ext.injection.measures import BackwardPass
from sdc_ext.injection.patches import Patches
from sdc_ext.injection.record import Step
from sdc_ext.injection.term import Term


class FeatureCorrection(BackwardCorrection):
    """Loops that match features of real and synthetic images: DM, CAFE, DataDAM, IDM, NCFM.

    The term of a backward pass is ``lam * ||grad_theta L(B)||_2`` for each network that the loss
    depends on, where L is the mean cross entropy of the synthetic images that the loop has called
    the network on. It takes one more forward and backward pass through these images, with a copy
    of the network, so that the loop's own gradients, buffers, hooks and random numbers stay as
    they are. Each label follows its image through decoding and augmentation.

    Reference: the SDC paper, Section 4.3, with DM.
    """

    def __init__(
        self, term: Term, complain: Callable[[str], None], steps: list[Step], roles: Roles
    ) -> None:
        super().__init__(term, complain, steps, roles, trajectories=False)
        self._calls = ForwardCalls(roles)

    def watch(self, patches: Patches) -> None:
        """Observes the calls of networks until the patches are undone."""
        self._calls.watch(patches)

    def left_over(self) -> str | None:
        """Forgets the calls that no loss has used, such as those for a metric."""
        self._calls.drop()
        return None

    def drop(self) -> None:
        """Forgets all calls."""
        super().drop()
        self._calls.drop()

    def _note(self, capture: Capture) -> None:
        self._complain(
            "the script asks for gradients of synthetic batches itself, so that they need not be "
            f"computed again: {advice(one_network=of_one_network([capture]), joint=True)}"
        )

    def _used_by(self, asked: BackwardPass) -> tuple[list[Capture], list[Tensor]]:
        calls = self._calls.take(asked.roots)
        captures = []
        for network in {id(call.network): call.network for call in calls}.values():
            labelled = [(c, self._labels(c)) for c in calls if c.network is network]
            gradient = self._gradient(network, [(c, y) for c, y in labelled if y is not None])
            if gradient is not None:
                captures.append(gradient)
        sources = {id(call.source): call.source for call in calls} if captures else {}
        return captures, list(sources.values())

    def _labels(self, call: Call) -> Tensor | None:
        """Returns the labels of a batch; complains if there are none or too many to choose from."""
        found = labels_in_sight(sys._getframe(1), call.source)
        images = number_of(len(call.source), "synthetic image")
        if len(found) != 1:
            seen = "no integer tensor has" if not found else f"{len(found)} integer tensors have"
            self._complain_of_batch(f"{seen} the labels of the {images}")
            return None
        with torch.random.fork_rng(_gpus()):
            labels = traced(call.batch, call.source, found[0])
        if labels is None:
            self._complain_of_batch("its images are made from several classes")
        return labels

    def _gradient(self, network: nn.Module, calls: Sequence[tuple[Call, Tensor]]) -> Capture | None:
        """Returns the gradient of the mean loss of some batches by a network's weights."""
        copied = _copied(network)
        parameters = list(copied.parameters())
        losses = []
        with self._calls.paused(), torch.random.fork_rng(_gpus()), torch.enable_grad():
            for call, labels in calls:
                batch = call.batch if self.active else call.batch.detach()
                logits = _logits(copied(batch), labels)
                if logits is None:
                    self._complain_of_batch(
                        f"{type(network).__name__} does not return one number per class"
                    )
                    return None
                losses.append(F.cross_entropy(logits, labels, reduction="none"))
            if not losses:
                return None
            gradient = torch.autograd.grad(
                torch.cat(losses).mean(),
                parameters,
                retain_graph=True,
                create_graph=self.active,
                materialize_grads=True,
            )
        by = [TensorWeakRef(parameter) for parameter in parameters]
        return Capture(list(gradient), by, True, By.WEIGHTS, None, self.active)

    def _complain_of_batch(self, why: str) -> None:
        self._complain(
            f"the difficulty of a synthetic batch cannot be computed, since {why}: wrap the "
            "matching loss in with_sdc, and pass it the gradient"
        )


def _copied(network: nn.Module) -> nn.Module:
    """Returns a network with the same weights, without hooks; all of its weights get gradients."""
    copied = copy.deepcopy(network).requires_grad_()
    for module in copied.modules():
        for hooks in (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks):
            hooks.clear()
    return copied


def _logits(outputs: object, labels: Tensor) -> Tensor | None:
    """Returns the first of a network's outputs that has one number per image and class."""
    classes = int(labels.max()) + 1
    for output in tree_leaves(outputs):
        if isinstance(output, Tensor) and output.ndim == 2 and output.shape[1] >= max(classes, 2):
            return output if len(output) == len(labels) else None
    return None


def _gpus() -> list[int]:
    return list(range(torch.cuda.device_count()))

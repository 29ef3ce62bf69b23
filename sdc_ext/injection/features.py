"""Corrects loops that match features, which never ask for a gradient by weights, as DM does."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.weak import TensorWeakRef

from sdc_ext._words import number_of
from sdc_ext.injection.backward import BackwardCorrection
from sdc_ext.injection.captures import Capture, advice, of_one_network
from sdc_ext.injection.forward_calls import Call, ForwardCalls
from sdc_ext.injection.labels import traced
from sdc_ext.injection.learnt import By, Roles
from sdc_ext.injection.measures import BackwardPass
from sdc_ext.injection.patches import Patches
from sdc_ext.injection.record import Step
from sdc_ext.injection.term import Term

# A call, the labels (B,) of its batch, and the shape of the logits.
_Labelled: TypeAlias = tuple[Call, Tensor, tuple[int, int]]


class FeatureCorrection(BackwardCorrection):
    """Loops that match features of real and synthetic images: DM, CAFE, DataDAM, IDM, NCFM.

    The term of a loss is ``lam * ||grad_theta L(B)||_2`` for each network that it depends on,
    where L is the mean cross entropy of the synthetic images that the network was called on. It
    takes one more forward and backward pass through these images, with a copy of the network, so
    that the loop's own gradients, buffers, module hooks and random numbers stay as they are. Each
    label follows its image through decoding and augmentation. An iteration is an image step.

    Reference: the SDC paper, Eq. 11 with the loss of DM (Section 4.3).
    """

    def __init__(
        self, term: Term, complain: Callable[[str], None], steps: list[Step], roles: Roles
    ) -> None:
        super().__init__(term, complain, steps, roles, trajectories=False)
        self._calls = ForwardCalls(roles)

    def watch(self, patches: Patches) -> None:
        """Observes the calls of networks."""
        self._calls.watch(patches)

    def left_over(self) -> str | None:
        """Lets go of what no loss has used: calls for a metric, and gradients for networks."""
        self._release()
        return None

    def drop(self) -> None:
        """Forgets all calls."""
        super().drop()
        self._calls.drop()

    def _release(self) -> None:
        super()._release()
        self._calls.release()

    def _fits(self, captures: Sequence[Capture]) -> bool:
        return True  # they are computed here

    def _count_iteration(self, network: Tensor | None) -> None:
        self._iteration += 1

    def _used_by(self, asked: BackwardPass) -> tuple[list[Capture], list[Tensor]]:
        own, learnt = super()._used_by(asked)
        if own:
            self._complain(
                "the script asks for gradients of synthetic batches itself, so none has to be "
                f"computed: {advice(one_network=of_one_network(own), joint=True)}"
            )
            return own, learnt
        calls = self._calls.take(asked.roots, asked.inputs)
        groups: dict[int, tuple[nn.Module, dict[int, _Labelled]]] = {}
        captures = []
        with self._calls.paused(), _random_numbers_kept(), torch.enable_grad():
            try:
                for call in calls:
                    network, labelled = self._identified(call)
                    of_network = groups.setdefault(id(network), (network, {}))[1]
                    of_network[id(call.batch)] = labelled
                captures = [self._gradient(n, list(b.values())) for n, b in groups.values()]
            except _UnknownDifficulty as error:
                self._complain_of_batch(str(error))
            except Exception as error:  # whatever the network of somebody else raises
                self._complain_of_batch(f"it raises {type(error).__name__} ({error})")
        sources = {id(s): s for call in calls for s in call.sources} if captures else {}
        return captures, list(sources.values())

    def _identified(self, call: Call) -> tuple[nn.Module, _Labelled]:
        """Returns the network that classifies the images of a call, and the labels of these."""
        images = number_of(len(call.sources[0]), "synthetic image")
        if len(call.sources) > 1:
            made = number_of(len(call.sources), "learnt tensor")
            raise _UnknownDifficulty(f"its images are made from {made}, where one has labels")
        if not call.has_its_weights:
            raise _UnknownDifficulty("the network was called with weights that are not its own")
        candidates = _plausible(call)
        if len(candidates) != 1:
            held = "integer tensors have" if candidates else "integer tensor has"
            raise _UnknownDifficulty(
                f"{len(candidates) or 'no'} {held} the labels of the {images}, where the network "
                "is called"
            )
        (source,), (known,) = call.sources, candidates
        labels = traced(call.batch, source, known)
        if labels is None:
            raise _UnknownDifficulty("its images are made from several classes, or from none")
        shape = len(labels), int(known.max()) + 1
        for network in call.networks:
            if _classifies(network, call, shape):
                self._calls.note_labels(source, known)
                return network, (call, labels, shape)
        raise _UnknownDifficulty(
            f"{type(call.networks[-1]).__name__} does not return one output with one number for "
            f"each of {shape[1]} classes"
        )

    def _gradient(self, network: nn.Module, batches: Sequence[_Labelled]) -> Capture:
        """Returns the gradient of the mean loss of some batches by a network's weights."""
        copied = batches[0][0].copied(network)
        parameters = list(copied.parameters())
        losses = []
        for call, labels, shape in batches:
            batch = call.batch if self.active else call.batch.detach()
            (logits,) = _of_shape(copied(batch), shape)
            losses.append(F.cross_entropy(logits, labels, reduction="none"))
        gradient = torch.autograd.grad(
            torch.cat(losses).mean(),
            parameters,
            retain_graph=True,
            create_graph=self.active,
            materialize_grads=True,
        )
        return Capture(
            gradients=list(gradient),
            by=[TensorWeakRef(parameter) for parameter in parameters],
            leaf=True,
            role=By.WEIGHTS,
            factor=None,
            graph=self.active,
        )

    def _complain_of_batch(self, why: str) -> None:
        self._complain(
            f"the difficulty of a synthetic batch cannot be computed, since {why}: wrap the "
            "matching loss in with_sdc, and pass it the gradient"
        )


class _UnknownDifficulty(Exception):
    """Says why the difficulty of a synthetic batch is unknown."""


def _plausible(call: Call) -> list[Tensor]:
    """Returns what may be the labels of a call, without the orders of its images.

    An order has no repetitions, whereas labels do, unless there is one image per class.
    """
    if len(call.labels) < 2:
        return call.labels

    def is_plausible(vector: Tensor) -> bool:
        shape = len(call.batch), int(vector.max()) + 1
        repeats = len(set(vector.tolist())) < len(vector)
        return repeats or any(_classifies(network, call, shape) for network in call.networks)

    return [*filter(is_plausible, call.labels)] or call.labels


@torch.no_grad()
def _classifies(network: nn.Module, call: Call, shape: tuple[int, int]) -> bool:
    """Returns whether a network returns one output with one number per image and class."""
    try:
        return len(_of_shape(call.copied(network)(call.batch.detach()), shape)) == 1
    except TypeError:  # a wrapper with other arguments, such as a trainer
        return False


def _of_shape(outputs: object, shape: tuple[int, int]) -> list[Tensor]:
    return [t for t in tree_leaves(outputs) if isinstance(t, Tensor) and t.shape == shape]


@contextmanager
def _random_numbers_kept() -> Iterator[None]:
    """Leaves all random numbers as they were: torch's, Python's and, if it is in use, numpy's."""
    numpy = sys.modules.get("numpy")
    state, of_numpy = random.getstate(), numpy and numpy.random.get_state()
    try:
        with torch.random.fork_rng(list(range(torch.cuda.device_count()))):
            yield
    finally:
        random.setstate(state)
        if numpy is not None:
            numpy.random.set_state(of_numpy)

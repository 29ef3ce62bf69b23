"""Evaluating one set: fresh networks are trained on it and tested on real images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TypeAlias

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from sdc_ext._memory import advising_on_memory
from sdc_ext._seeds import Draws, seed_torch
from sdc_ext.data.real import RealData, Split
from sdc_ext.networks.create import create_network
from sdc_ext.sets.info import Evaluation
from sdc_ext.training.epochs import accuracy, normalized_batches
from sdc_ext.training.gradients import BatchLoss
from sdc_ext.training.recipe import TrainingRecipe, train_from_scratch
from sdc_ext.training.stacked import StackedGradient, obstacle, train_stack
from sdc_ext.workers.launch import map_in_launch
from sdc_ext.workers.pool import SERIAL, Workers

NetworkGroup: TypeAlias = tuple[int, Sequence[int]]
"""The number of a set, and the numbers of networks that are trained on it at once."""


def evaluate(
    images: Tensor,
    labels: Tensor,
    data: RealData,
    recipe: TrainingRecipe,
    *,
    network: str,
    num_eval: int,
    seed: int,
    accelerator: Accelerator,
    compile: bool = False,
    workers: Workers = SERIAL,
    stack: int = 1,
    on_network: Callable[[], object] = lambda: None,
    say: Callable[[str], object] = lambda line: None,
) -> Evaluation:
    """Trains ``num_eval`` networks on a set and tests them on the real test images.

    Network k starts from the same weights for every set and iteration, so that comparisons
    under one seed are paired. The networks are divided among processes.

    Args:
        images: Synthetic images (N, C, H, W), normalised as ``data`` normalises.
        labels: Their labels (N,) int64, or probabilities (N, classes).
        data: The real data, whose test images are used.
        recipe: The recipe by which the networks are trained.
        network: The architecture; see [`create_network`][sdc_ext.networks.create_network].
        num_eval: The number of networks.
        seed: Seeds the initialisations, batches and augmentations.
        accelerator: The device, processes and precision to run with.
        compile: Compile training and testing, which pays if ``num_eval`` or the test set is large.
        workers: The workers that train the networks side by side; by default this process trains
            one after the other.
        stack: The number of networks that are trained at once, with stacked parameters, which
            pays on GPUs. Accuracies are those of one by one up to rounding.
        on_network: Called after every network that this process has tested.
        say: Called with a line if networks cannot be stacked, or about workers that were lost.

    Returns:
        The test accuracy of every network, in [0, 1], in the order of k.

    Raises:
        InputError: If a stack does not fit into memory.
    """
    trained = TrainedOn(images.detach(), labels, tested_only(data), recipe, network)
    networks = Networks((trained,), seed, accelerator, compile)
    groups = network_groups((trained,), num_eval, stack, say)

    def note(index: int, accuracies: list[float]) -> None:
        del index
        for _ in accuracies:
            on_network()

    found = map_in_launch(
        workers, accelerator, Networks.accuracies, networks, groups, on_done=note, say=say
    )
    return Evaluation(network, tuple(chain.from_iterable(found)))


def network_groups(
    sets: Sequence[TrainedOn], num_eval: int, stack: int, say: Callable[[str], object]
) -> list[NetworkGroup]:
    """Returns groups of at most ``stack`` networks, which are trained at once.

    Args:
        sets: What the networks are trained on.
        num_eval: The number of networks per set.
        stack: The number of networks at once.
        say: Called with a line for every architecture whose networks have to be trained one by one.
    """
    sizes: dict[tuple[object, ...], int] = {}
    for trained in sets:
        if trained.architecture not in sizes:
            reason = _obstacle(trained) if min(stack, num_eval) > 1 else None
            sizes[trained.architecture] = stack if reason is None else 1
            if reason is not None:
                say(f"{trained.network}: {reason}, so its networks are trained one by one")
    return [
        (number, range(num_eval)[first : first + sizes[trained.architecture]])
        for number, trained in enumerate(sets)
        for first in range(0, num_eval, sizes[trained.architecture])
    ]


def _obstacle(trained: TrainedOn) -> str | None:
    channels, _, size = shape = trained.data.network_shape
    return obstacle(create_network(trained.network, *shape), (channels, *size))


def tested_only(data: RealData) -> RealData:
    """Returns the data with a single training image, so that workers are not sent the others."""
    train = Split(data.train.images[:1].clone(), data.train.labels[:1].clone())
    return replace(data, train=train)


@dataclass(frozen=True)
class TrainedOn:
    """What networks are trained on, and how.

    Attributes:
        images: Images (N, C, H, W), normalised as ``data`` normalises.
        labels: Their labels (N,) int64, or probabilities (N, classes).
        data: The real data, whose test images are used.
        recipe: The recipe of the training.
        network: The architecture.
    """

    images: Tensor
    labels: Tensor
    data: RealData
    recipe: TrainingRecipe
    network: str

    @property
    def architecture(self) -> tuple[object, ...]:
        """The name of the network and the shape that it is made for."""
        return self.network, *self.data.network_shape


def trained_network(
    trained: TrainedOn, seed: int, k: int, batch_loss: BatchLoss, device: torch.device
) -> nn.Module:
    """Returns network k of an evaluation, trained, on the device.

    Args:
        trained: What it is trained on, and how.
        seed: Seeds the initialisations, batches and augmentations.
        k: The number of the network, which starts from the same weights on every set.
        batch_loss: Computes losses.
        device: The device.
    """
    model = _fresh_network(trained, seed, k, device)
    images, labels = trained.images.to(device), trained.labels.to(device)
    train_from_scratch(
        model, images, labels, trained.recipe, batch_loss, trained.data.preprocessing
    )
    return model


def _fresh_network(trained: TrainedOn, seed: int, k: int, device: torch.device) -> nn.Module:
    """Returns network k before its training, on the device; its draws follow from here."""
    seed_torch(seed, "evaluation", k)
    return create_network(trained.network, *trained.data.network_shape).to(device)


class Networks:
    """The networks of several evaluations, any of which can be trained and tested by itself.

    Args:
        sets: What the networks are trained on.
        seed: Seeds the initialisations, batches and augmentations.
        accelerator: The device and the precision.
        compile: Compile training and testing.
    """

    def __init__(
        self, sets: Sequence[TrainedOn], seed: int, accelerator: Accelerator, compile: bool
    ) -> None:
        self._sets = sets
        self._seed = seed
        self._accelerator = accelerator
        self._compile = compile
        self._opened: tuple[int, _Opened] | None = None

    def accuracies(self, group: NetworkGroup) -> list[float]:
        """Trains networks and returns their test accuracies, in [0, 1].

        Args:
            group: The number of the set, and the numbers k of the networks. Several networks are
                trained as a stack.

        Raises:
            InputError: If a stack does not fit into memory.
        """
        number, members = group
        opened = self._open(number)
        if len(members) == 1:
            return [self._alone(opened, members[0])]
        with advising_on_memory(f"lower `stack`, since {len(members)} networks at once do not fit"):
            return self._stacked(opened, members)

    def _alone(self, opened: _Opened, k: int) -> float:
        device = self._accelerator.device
        model = trained_network(opened.trained, self._seed, k, opened.batch_loss, device)
        return accuracy(model, opened.test, opened.batch_loss)

    def _stacked(self, opened: _Opened, members: Sequence[int]) -> list[float]:
        trained, models, draws = opened.trained, [], []
        for k in members:
            models.append(_fresh_network(trained, self._seed, k, self._accelerator.device))
            draws.append(Draws(self._accelerator.device))
        train_stack(
            models,
            draws,
            trained.images,
            trained.labels,
            trained.recipe,
            opened.gradient,
            trained.data.preprocessing,
        )
        # A batch of test images fills a GPU by itself.
        return [accuracy(model, opened.test, opened.batch_loss) for model in models]

    def _open(self, number: int) -> _Opened:
        """Returns a set on the device; the one before it is dropped, which bounds memory."""
        if self._opened is None or self._opened[0] != number:
            trained, device = self._sets[number], self._accelerator.device
            bf16 = self._accelerator.mixed_precision == "bf16"
            opened = _Opened(
                replace(
                    trained, images=trained.images.to(device), labels=trained.labels.to(device)
                ),
                normalized_batches(trained.data, trained.data.test, device),
                BatchLoss.of(self._accelerator, compile=self._compile),
                StackedGradient(bf16=bf16, compile=self._compile),
            )
            self._opened = number, opened
        return self._opened[1]


@dataclass(frozen=True)
class _Opened:
    """A set and the test images, normalised and on the device, and what computes losses."""

    trained: TrainedOn
    test: list[tuple[Tensor, Tensor]]
    batch_loss: BatchLoss
    gradient: StackedGradient

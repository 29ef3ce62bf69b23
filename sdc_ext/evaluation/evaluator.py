"""Evaluating one set: fresh networks are trained on it and tested on real images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from sdc_ext._seeds import seed_torch
from sdc_ext.data.real import RealData, Split
from sdc_ext.networks.create import create_network
from sdc_ext.sets.info import Evaluation
from sdc_ext.training.epochs import accuracy, normalized_batches
from sdc_ext.training.gradients import BatchLoss
from sdc_ext.training.recipe import TrainingRecipe, train_from_scratch
from sdc_ext.workers.pool import SERIAL, Workers


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
    on_network: Callable[[], object] = lambda: None,
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
        on_network: Called after every network that this process has tested.

    Returns:
        The test accuracy of every network, in [0, 1], in the order of k.
    """
    trained = TrainedOn(images.detach(), labels, tested_only(data), recipe, network)
    networks = Networks((trained,), seed, accelerator, compile)
    own = range(num_eval)[accelerator.process_index :: accelerator.num_processes]
    cells = [(0, k) for k in own]
    found = workers.map(
        Networks.accuracy, networks, cells, on_done=lambda index, result: on_network()
    )
    tested = gather_object(list(zip(own, found, strict=True)))
    return Evaluation(network, tuple(a for _, a in sorted(tested)))


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

    def accuracy(self, cell: tuple[int, int]) -> float:
        """Trains a network and returns its test accuracy, in [0, 1].

        Args:
            cell: The number of the set, and that of the network, k.
        """
        number, k = cell
        trained = self._sets[number]
        opened = self._open(number)
        seed_torch(self._seed, "evaluation", k)
        model = create_network(trained.network, *trained.data.network_shape)
        model.to(self._accelerator.device)
        normalisation = trained.data.preprocessing
        train_from_scratch(
            model, opened.images, opened.labels, trained.recipe, opened.batch_loss, normalisation
        )
        return accuracy(model, opened.test, opened.batch_loss)

    def _open(self, number: int) -> _Opened:
        """Returns a set on the device; the one before it is dropped, which bounds memory."""
        if self._opened is None or self._opened[0] != number:
            trained, device = self._sets[number], self._accelerator.device
            bf16 = self._accelerator.mixed_precision == "bf16"
            opened = _Opened(
                trained.images.to(device),
                trained.labels.to(device),
                normalized_batches(trained.data, trained.data.test, device),
                BatchLoss(bf16=bf16, compile=self._compile),
            )
            self._opened = number, opened
        return self._opened[1]


@dataclass(frozen=True)
class _Opened:
    """A set and the test images, normalised and on the device, and what computes losses."""

    images: Tensor
    labels: Tensor
    test: list[tuple[Tensor, Tensor]]
    batch_loss: BatchLoss

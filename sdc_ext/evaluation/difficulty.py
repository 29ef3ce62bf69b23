"""Measuring how hard samples are for networks: chi, GraDN, loss, EL2N and margin.

References: SDC paper, Definitions 1 and 2; Paul et al., "Deep Learning on a Data Diet: Finding
Important Examples Early in Training", NeurIPS 2021 (GraNd and EL2N).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from scipy import stats
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from sdc_ext._seeds import seed_torch
from sdc_ext.data.real import RealData
from sdc_ext.errors import InputError, check_choice
from sdc_ext.evaluation.selection import pick_at_random
from sdc_ext.networks.chunks import split_batch, uses_batch_statistics
from sdc_ext.regularizer import gradient_norm
from sdc_ext.training.epochs import normalized_batches
from sdc_ext.training.probe import Probe, train_probe
from sdc_ext.workers.launch import map_in_launch
from sdc_ext.workers.pool import SERIAL, Workers
from sdc_ext.workers.progress import Steps

# How many numbers the gradients of the samples differentiated at once may hold: the fastest on the
# CPUs measured (benchmarks/difficulty.py), and 256 MB in float32 on other devices.
_AT_ONCE_ON_CPU, _AT_ONCE = 2**21, 2**26

MEASURES = {
    "misclassified": "share of networks that are wrong",
    "gradn": "GraDN",
    "loss": "loss",
    "el2n": "EL2N",
    "margin": "margin",
}
"""The measures of difficulty by name, each with its title."""


@dataclass(frozen=True)
class Difficulty:
    """The difficulty of N samples for one network, or its mean over several networks.

    Attributes:
        misclassified: Chi, the share of networks that misclassify a sample (N,), in [0, 1]
            (Definition 1). For soft labels, the most probable class counts as the true one.
        gradn: GraDN, the L2 norm of the gradient of a sample's loss over all parameters (N,)
            (Definition 2).
        loss: The cross-entropy of a sample (N,), in nats.
        el2n: EL2N, the L2 norm of the predicted probabilities minus those of the label (N,), in
            [0, sqrt(2)].
        margin: The logit of the true class minus the largest other one (N,); the lower, the harder
            is the sample, and below 0 it is misclassified.
    """

    misclassified: Tensor
    gradn: Tensor
    loss: Tensor
    el2n: Tensor
    margin: Tensor

    @classmethod
    def mean(cls, members: Sequence[Difficulty]) -> Difficulty:
        """Averages the difficulty of the same samples over an ensemble of networks."""
        names = [field.name for field in fields(cls)]
        return cls(*(torch.stack([getattr(m, name) for m in members]).mean(0) for name in names))

    def at(self, index: Tensor) -> Difficulty:
        """Returns the difficulty of the samples at some positions (n,)."""
        return Difficulty(*(getattr(self, field.name)[index] for field in fields(self)))

    def rank_correlation(self, first: str, second: str) -> float:
        """Computes Spearman's correlation of two measures; NaN if one of them is constant.

        Args:
            first: The name of a measure, i.e. of an attribute.
            second: The name of another one.

        Raises:
            InputError: If a name is unknown.
        """
        for name in (first, second):
            check_choice("measure", name, tuple(MEASURES))
        one, other = getattr(self, first), getattr(self, second)
        if one.min() == one.max() or other.min() == other.max():
            return math.nan
        return float(stats.spearmanr(one, other).statistic)

    @property
    def rank_correlations(self) -> dict[str, float]:
        """Spearman's correlations of chi with every other measure, by its name."""
        others = [name for name in MEASURES if name != "misclassified"]
        return {name: self.rank_correlation("misclassified", name) for name in others}


def score_samples(
    network: nn.Module, images: Tensor, labels: Tensor, *, chunk_size: int | None = None
) -> Difficulty:
    """Measures the difficulty of every sample for one network.

    ``GraDN_i = ||grad_theta L(x_i, y_i; theta)||_2``

    ``EL2N_i = ||p(x_i; theta) - y_i||_2``, with the softmax p of the outputs

    Args:
        network: A network without batch norm in training mode, under which a sample has no
            gradient of its own.
        images: The samples (N, C, H, W), normalised, on the network's device.
        labels: Their labels (N,) int64, or probabilities (N, classes).
        chunk_size: The number of samples to differentiate at once with ``torch.func.vmap``; 1
            differentiates them one by one. The default suits the device; on CPUs, wide networks
            take samples one by one.

    Returns:
        The difficulty, on the CPU; up to rounding it does not depend on ``chunk_size``.

    Raises:
        InputError: If the network uses batch statistics, or ``chunk_size`` is below 1.

    References: SDC paper, Definition 2; Paul et al. (2021), Definition 2.3 (EL2N).
    """
    if uses_batch_statistics(network):
        raise InputError("batch norm in training mode mixes samples: call network.eval() first")
    size = _default_chunk_size(network, images.device) if chunk_size is None else chunk_size
    if size < 1:
        raise InputError(f"chunk_size must be at least 1, got {size}")
    norms, losses, outputs = (_one_by_one if size == 1 else _at_once)(
        network, images.detach(), labels, size
    )
    outputs, labels = outputs.cpu(), labels.cpu()
    hard = labels if labels.ndim == 1 else labels.argmax(1)
    wrong = (outputs.argmax(1) != hard).float()
    of_label = F.one_hot(labels, outputs.shape[1]) if labels.ndim == 1 else labels
    el2n = (outputs.softmax(1) - of_label).norm(dim=1)
    return Difficulty(wrong, norms.cpu(), losses.cpu(), el2n, _margins(outputs, hard))


def real_samples(data: RealData, split: str, per_class: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draws random real images of each class.

    Args:
        data: The real data.
        split: ``"test"`` or ``"train"``.
        per_class: The number of images per class; a smaller class is taken whole.
        seed: Seeds the choice.

    Returns:
        Images (N, C, H, W), normalised, and labels (N,), sorted by class.

    Raises:
        InputError: If the split is neither.
    """
    check_choice("split", split, ("test", "train"))
    images = data.test if split == "test" else data.train
    seed_torch(seed, "scored")
    by_class = (torch.nonzero(images.labels == c)[:, 0] for c in range(len(data.classes)))
    index = torch.cat([pick_at_random(of_class, per_class) for of_class in by_class])
    return data.normalize(images.images[index]), images.labels[index]


def measure_difficulty(
    samples: Mapping[str, tuple[Tensor, Tensor]],
    data: RealData,
    probe: Probe,
    *,
    epochs: Collection[int],
    networks: int,
    seed: int,
    accelerator: Accelerator,
    workers: Workers = SERIAL,
    on_epoch: Callable[[], object] = lambda: None,
    say: Callable[[str], object] = lambda line: None,
) -> dict[tuple[str, int], Difficulty]:
    """Measures difficulty over an ensemble of networks trained on the real training images.

    Args:
        samples: Images (N, C, H, W), normalised as ``data`` normalises, and their labels (N,) int64
            or probabilities (N, classes), by name.
        data: The real data.
        probe: The architecture and the training of the networks.
        epochs: The epochs after which samples are scored, from 1 to the last epoch of training.
        networks: The number of networks, which are divided among processes.
        seed: Seeds the networks.
        accelerator: The device and the processes to run on.
        workers: The workers that train networks side by side.
        on_epoch: Called once for every epoch of every network of this process, or of its workers.
        say: Called with a line about workers that were lost.

    Returns:
        The mean difficulty over the networks, by the name of the samples and the epoch.

    Raises:
        InputError: If an epoch is outside of the training.

    Reference: SDC paper, Definitions 1 and 2, and Figure 3.
    """
    for epoch in epochs:
        if not 1 <= epoch <= probe.train_epochs:
            raise InputError(
                f"epochs must be from 1 to {probe.train_epochs} (`train_epochs`), got {epoch}"
            )
    steps = Steps(on_epoch, probe.train_epochs)
    ensemble = _Ensemble(samples, data, probe, frozenset(epochs), seed, accelerator, steps)
    found = map_in_launch(
        workers,
        accelerator,
        _Ensemble.score,
        ensemble,
        range(networks),
        on_done=steps.end_cell,
        say=say,
    )
    members: defaultdict[tuple[str, int], list[Difficulty]] = defaultdict(list)
    for of_network in found:
        for place, difficulty in of_network.items():
            members[place].append(difficulty)
    return {place: Difficulty.mean(of_place) for place, of_place in members.items()}


@dataclass(frozen=True)
class _Ensemble:
    """An ensemble of networks, any of which can be trained and score samples by itself."""

    samples: Mapping[str, tuple[Tensor, Tensor]]
    data: RealData
    probe: Probe
    epochs: Collection[int]
    seed: int
    accelerator: Accelerator
    steps: Steps

    @cached_property
    def _batches(self) -> list[tuple[Tensor, Tensor]]:
        return normalized_batches(self.data, self.data.train, self.accelerator.device)

    def score(self, k: int) -> dict[tuple[str, int], Difficulty]:
        """Trains network k, and returns the difficulty of the samples by name and epoch."""
        device, scored, done = self.accelerator.device, {}, 0

        def score(network: nn.Module) -> None:
            nonlocal done
            done += 1
            if done in self.epochs:
                network.eval()
                for name, (images, labels) in self.samples.items():
                    on_device = images.to(device), labels.to(device)
                    scored[name, done] = score_samples(network, *on_device)
            self.steps.take()

        train_probe(
            self.data,
            self.probe,
            self._batches,
            seed=self.seed,
            device=device,
            index=k,
            on_epoch=score,
        )
        return scored


def _margins(outputs: Tensor, labels: Tensor) -> Tensor:
    """Returns each sample's logit of its label (N,) minus its largest other logit."""
    own = outputs.gather(1, labels[:, None])
    return (own - outputs.scatter(1, labels[:, None], -torch.inf).amax(1, keepdim=True))[:, 0]


def _default_chunk_size(network: nn.Module, device: torch.device) -> int:
    parameters = sum(p.numel() for p in network.parameters())
    numbers = _AT_ONCE_ON_CPU if device.type == "cpu" else _AT_ONCE
    return max(1, min(128, numbers // parameters))


def _one_by_one(
    network: nn.Module, images: Tensor, labels: Tensor, size: int
) -> tuple[Tensor, Tensor, Tensor]:
    parameters = [p for p in network.parameters() if p.requires_grad]
    rows = []
    for image, label in split_batch(images, labels, size):
        output = network(image)
        loss = F.cross_entropy(output, label)
        gradient = torch.autograd.grad(loss, parameters, materialize_grads=True)
        rows.append((gradient_norm(gradient), loss.detach(), output.detach()[0]))
    norms, losses, outputs = (torch.stack(column) for column in zip(*rows, strict=True))
    return norms, losses, outputs


def _at_once(
    network: nn.Module, images: Tensor, labels: Tensor, size: int
) -> tuple[Tensor, Tensor, Tensor]:
    parameters = {n: p.detach() for n, p in network.named_parameters() if p.requires_grad}

    def loss_of(
        parameters: dict[str, Tensor], image: Tensor, label: Tensor
    ) -> tuple[Tensor, Tensor]:
        output = functional_call(network, parameters, (image[None],))
        return F.cross_entropy(output, label[None]), output[0]

    def score(image: Tensor, label: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        gradients, (loss, output) = grad_and_value(loss_of, has_aux=True)(parameters, image, label)
        return gradient_norm(gradients), loss, output

    norms, losses, outputs = vmap(score, chunk_size=size, randomness="different")(images, labels)
    return norms, losses, outputs

"""The surrogates that methods match, measured on given sets under the same networks.

Gradient, trajectory and distribution matching each lower another discrepancy to the real data in
place of the error. Here all of them are measured for sets that are already there, whatever made
them, so that one can see which of them ranks sets as the accuracy does.

Reference: Luo and Xu, "Utility Boundary of Dataset Distillation" (arXiv 2512.05817), which calls
them interchangeable surrogates of the generalisation error.
"""

from __future__ import annotations

import copy
import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from sdc_ext._seeds import seed_torch
from sdc_ext.data.real import RealData
from sdc_ext.errors import InputError
from sdc_ext.evaluation.closeness import fresh_networks
from sdc_ext.evaluation.discrepancies import choose_discrepancies
from sdc_ext.evaluation.selection import pick_at_random
from sdc_ext.matching.distances import (
    layerwise_cosine,
    mean_feature_distance,
    parameter_distance,
)
from sdc_ext.networks.features import features_of
from sdc_ext.networks.functional import FunctionalNetwork
from sdc_ext.sets.synthetic_set import SyntheticSet
from sdc_ext.training.epochs import normalized_batches
from sdc_ext.training.gradients import mean_gradient
from sdc_ext.training.probe import Probe, train_probe

# The surrogates, in the order of tables.
SURROGATES = (
    "gradient, random",
    "gradient, trained",
    "trajectory",
    "features, random",
    "features, trained",
    "kernel, random",
    "kernel, trained",
)

# The step sizes of which a set's best one counts: sets need different ones, and files of others
# rarely say which.
_RATES = (0.003, 0.01, 0.03, 0.1, 0.3)

# How many segments of the trajectory are matched at most.
_SEGMENTS = 5


@dataclass(frozen=True)
class Inner:
    """The inner loop of the trajectory discrepancy.

    Attributes:
        steps: The number of steps that a student takes on the set.
        epochs: The number of epochs on the real images that they are compared with.
    """

    steps: int = 20
    epochs: int = 3


@dataclass(frozen=True)
class Yardstick:
    """The networks and real images by which all sets are measured.

    Attributes:
        data: The real data, normalised as the sets are.
        architecture: The name of the networks.
        trajectory: The trained network after each epoch, in evaluation mode.
        real: Normalised real images (n, C, H, W) of each class, at most a given number.
        inner: The inner loop of the trajectory discrepancy.
        seed: Seeds the random networks.
        device: The device of the networks.
    """

    data: RealData
    architecture: str
    trajectory: tuple[nn.Module, ...]
    real: tuple[Tensor, ...]
    inner: Inner
    seed: int
    device: torch.device

    @classmethod
    def of(
        cls,
        data: RealData,
        probe: Probe,
        inner: Inner,
        *,
        max_real: int,
        seed: int,
        device: torch.device,
        on_epoch: Callable[[], object] = lambda: None,
    ) -> Yardstick:
        """Trains a network on the real images, and chooses the real images to compare with.

        Args:
            data: The real data, normalised as the sets are.
            probe: The architecture of all networks, and the training.
            inner: The inner loop of the trajectory discrepancy.
            max_real: The largest number of real images per class.
            seed: Seeds the networks and the choice of images.
            device: The device of the networks.
            on_epoch: Called after every epoch of training.

        Raises:
            InputError: If the training has fewer epochs than the inner loop needs.
        """
        if probe.train_epochs <= inner.epochs:
            raise InputError(
                f"`train_epochs` {probe.train_epochs} leaves no segment of {inner.epochs} epochs "
                "after the first one: train for more epochs, or lower `expert_epochs`"
            )
        trajectory: list[nn.Module] = []

        def note(network: nn.Module) -> None:
            trajectory.append(copy.deepcopy(network).eval())
            on_epoch()

        batches = normalized_batches(data, data.train, device)
        train_probe(data, probe, batches, seed=seed, device=device, on_epoch=note)
        real = []
        for label, index in enumerate(data.indices_by_class()):
            seed_torch(seed, "reference", label)
            chosen = pick_at_random(index, max_real)
            real.append(data.normalize(data.train.images[chosen]).to(device))
        return cls(data, probe.network, tuple(trajectory), tuple(real), inner, seed, device)

    @property
    def starts(self) -> range:
        """The entries of the trajectory at which the segments begin, evenly spaced."""
        last = len(self.trajectory) - 1 - self.inner.epochs
        return range(0, last + 1, max(1, math.ceil((last + 1) / _SEGMENTS)))

    @cached_property
    def random_networks(self) -> list[nn.Module]:
        """Random networks, in evaluation mode."""
        fresh = fresh_networks(self.data, self.architecture, self.seed)
        return [network.to(self.device).eval() for network in fresh]

    @property
    def trained_networks(self) -> list[nn.Module]:
        """The networks at the beginnings of the segments and at the end of the trajectory."""
        return [self.trajectory[entry] for entry in (*self.starts, -1)]

    def parameters(self, entry: int) -> Tensor:
        """Returns the parameters (P,) of the network at an entry of the trajectory."""
        return FunctionalNetwork(self.trajectory[entry]).initial_parameters()


def measure_surrogates(
    sets: Iterable[SyntheticSet],
    yardstick: Yardstick,
    on_set: Callable[[], object] = lambda: None,
) -> list[dict[str, float]]:
    """Returns the discrepancies of each set to the real data, by the names in ``SURROGATES``.

    Gradients, features and kernels are compared class by class and averaged over the classes and
    over networks: random ones, and those that a network passes through while it is trained on the
    real images. Gradients have DC's distance, and features DM's. The kernel discrepancy is the
    maximum mean discrepancy of features under Gaussian kernels. For the trajectory, students train
    on the set from entries of the trajectory on, and the distance to its later entries is
    normalised as in MTT; the best of five step sizes counts.

    Args:
        sets: The sets, normalised as the yardstick's data are.
        yardstick: The networks and the real images.
        on_set: Called after every set.
    """
    groups = {"random": yardstick.random_networks, "trained": yardstick.trained_networks}
    # What is real is computed once for all sets.
    gradients = {name: [_real_gradients(n, yardstick) for n in of] for name, of in groups.items()}
    points = {
        name: [[features_of(n, images) for images in yardstick.real] for n in of]
        for name, of in groups.items()
    }
    found = []
    for synthetic in sets:
        parts = list(_by_class(synthetic, yardstick.device))
        row = {"trajectory": trajectory_discrepancy(synthetic, yardstick)}
        for name, of in groups.items():
            row[f"gradient, {name}"] = statistics.fmean(
                gradient_discrepancy(n, parts, real)
                for n, real in zip(of, gradients[name], strict=True)
            )
            both = [
                feature_discrepancies(n, parts, real)
                for n, real in zip(of, points[name], strict=True)
            ]
            row[f"features, {name}"], row[f"kernel, {name}"] = map(
                statistics.fmean, zip(*both, strict=True)
            )
        found.append({name: row[name] for name in SURROGATES})
        on_set()
    return found


@dataclass(frozen=True)
class Part:
    """The images of one class.

    Attributes:
        label: The index of the class.
        images: The images (n, C, H, W), normalised.
        labels: Their labels (n,) int64, or probabilities (n, classes).
    """

    label: int
    images: Tensor
    labels: Tensor


def gradient_discrepancy(
    network: nn.Module, parts: Sequence[Part], real: Sequence[Sequence[Tensor]]
) -> float:
    """Returns DC's distance between the gradients of a set and of the real images.

    It is a mean over the classes of the set.

    Args:
        network: The network, in evaluation mode.
        parts: The set by class.
        real: The gradient of the real images of each class, one tensor per parameter.

    Reference: Zhao et al., "Dataset Condensation with Gradient Matching", Eq. 8 and 9.
    """
    return statistics.fmean(
        float(layerwise_cosine(mean_gradient(network, p.images, p.labels), real[p.label]))
        for p in parts
    )


def feature_discrepancies(
    network: nn.Module, parts: Sequence[Part], real: Sequence[Tensor]
) -> tuple[float, float]:
    """Returns the distance of mean features and the kernel discrepancy, means over the classes.

    Args:
        network: The network, in evaluation mode.
        parts: The set by class.
        real: The features (n, D) of the real images of each class.

    Reference: Zhao and Bilen, "Dataset Condensation with Distribution Matching", Eq. 6; Gretton et
    al., "A Kernel Two-Sample Test", Eq. 5.
    """
    (kernel,) = choose_discrepancies(["mmd-gaussian"]).values()
    means, kernels = [], []
    for part in parts:
        points, of_class = features_of(network, part.images), real[part.label]
        means.append(float(mean_feature_distance(points.mean(0), of_class.mean(0))))
        kernels.append(float(kernel(of_class, points[None])))
    return statistics.fmean(means), statistics.fmean(kernels)


def trajectory_discrepancy(synthetic: SyntheticSet, yardstick: Yardstick) -> float:
    """Returns how far from the trained network students of the set end, relative to their start.

    ``||theta_N - theta_target||^2 / ||theta_start - theta_target||^2``, a mean over segments of
    the trajectory, with the step size at which it is least.

    Args:
        synthetic: The set.
        yardstick: The trajectory and the inner loop.

    Reference: Cazenavette et al., "Dataset Distillation by Matching Training Trajectories", Eq. 2.
    """
    images, labels = synthetic.images.to(yardstick.device), synthetic.labels.to(yardstick.device)

    def distance(entry: int, rate: float) -> float:
        student = FunctionalNetwork(yardstick.trajectory[entry])
        start = theta = yardstick.parameters(entry)
        target = yardstick.parameters(entry + yardstick.inner.epochs)
        for _ in range(yardstick.inner.steps):
            theta = theta - rate * student.mean_gradient(theta, images, labels)
        found = float(parameter_distance(theta, target, start))
        return found if math.isfinite(found) else math.inf

    means = (statistics.fmean(distance(entry, r) for entry in yardstick.starts) for r in _RATES)
    return min(means)


def _by_class(synthetic: SyntheticSet, device: torch.device) -> Iterator[Part]:
    """Yields the images of each class that the set has."""
    classes = synthetic.hard_labels
    for label in range(len(synthetic.info.classes)):
        chosen = classes == label
        if chosen.any():
            images, labels = synthetic.images[chosen], synthetic.labels[chosen]
            yield Part(label, images.to(device), labels.to(device))


def _real_gradients(network: nn.Module, yardstick: Yardstick) -> list[tuple[Tensor, ...]]:
    return [
        mean_gradient(network, images, torch.full((len(images),), label, device=images.device))
        for label, images in enumerate(yardstick.real)
    ]

"""What networks trained on a set get right beyond clean test images: conditions and groups.

A condition changes the test images: a corruption, or an attack on the network that is tested. The
networks are those of an evaluation under the same seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from sdc_ext._seeds import seed_torch
from sdc_ext.augment.base import Augmentation
from sdc_ext.augment.corruptions import parse_corruption
from sdc_ext.data.preprocessing import Preprocessing, as_pixels
from sdc_ext.errors import InputError
from sdc_ext.evaluation.attacks import ATTACKS
from sdc_ext.evaluation.evaluator import TrainedOn, trained_network
from sdc_ext.evaluation.intervals import MeanInterval
from sdc_ext.networks.chunks import split_batch
from sdc_ext.training.gradients import BatchLoss
from sdc_ext.workers.launch import map_in_launch
from sdc_ext.workers.pool import SERIAL, Workers

CLEAN = "clean"

# Test images at once; attacks keep a graph.
_AT_ONCE = 256


@dataclass(frozen=True)
class Condition:
    """A change of the test images.

    Attributes:
        name: ``"clean"``, a corruption with its severity, e.g. ``"jpeg:3"``, or an attack with the
            largest change of a pixel in 255ths, e.g. ``"pgd:8"``.

    Raises:
        InputError: If the name is unknown.
    """

    name: str

    def __post_init__(self) -> None:
        if not self.is_attack:
            if self.name != CLEAN:
                self._corruption()
            return
        try:
            usable = 0 < float(self._parts[1]) <= 255
        except ValueError:
            usable = False
        if not usable:
            raise InputError(
                f"cannot read the attack {self.name!r}: write its name and the largest change of a "
                "pixel in 255ths, above 0 and at most 255, e.g. pgd:8"
            )

    @property
    def is_attack(self) -> bool:
        """Whether the change depends on the network."""
        return self._parts[0] in ATTACKS

    @property
    def _parts(self) -> tuple[str, str]:
        kind, _, strength = self.name.partition(":")
        return kind, strength

    def changed(
        self, pixels: Tensor, labels: Tensor, network: nn.Module, normalisation: Preprocessing
    ) -> Tensor:
        """Returns the changed pixels.

        Args:
            pixels: Pixels (B, C, H, W) in [0, 1].
            labels: Their classes (B,).
            network: The network that is attacked, in evaluation mode.
            normalisation: The normalisation before the network.
        """
        if self.name == CLEAN:
            return pixels
        if not self.is_attack:
            return self._corruption().draw((pixels.shape[2], pixels.shape[3]))(pixels)
        kind, strength = self._parts
        return ATTACKS[kind](network, pixels, labels, float(strength) / 255, normalisation)

    def _corruption(self) -> Augmentation:
        if self.name == "none":
            raise InputError("the condition none is always measured, as `clean`: leave it out")
        return parse_corruption(self.name)


def conditions_of(names: Sequence[str]) -> list[Condition]:
    """Returns the clean condition and those named, each once.

    Raises:
        InputError: If a name is unknown.
    """
    return [Condition(name) for name in dict.fromkeys((CLEAN, *names))]


@dataclass(frozen=True)
class Answers:
    """Which test images the networks of a set classify correctly under each condition.

    Attributes:
        conditions: The names of the conditions.
        correct: Bools (networks, conditions, test images).
        groups: The group of each test image (N,) int64.
        names: The names of the groups.
    """

    conditions: tuple[str, ...]
    correct: Tensor
    groups: Tensor
    names: tuple[str, ...]

    def accuracy(self, condition: str) -> MeanInterval:
        """Returns the accuracy over all test images."""
        return MeanInterval.of(self._correct(condition).double().mean(1).tolist())

    def accuracies_by_group(self, condition: str) -> dict[str, MeanInterval]:
        """Returns the accuracy of each group that has test images, by its name."""
        correct = self._correct(condition).double()
        members = {name: self.groups == g for g, name in enumerate(self.names)}
        return {
            name: MeanInterval.of(correct[:, member].mean(1).tolist())
            for name, member in members.items()
            if bool(member.any())
        }

    def worst_group(self, condition: str) -> tuple[str, MeanInterval]:
        """Returns the group with the lowest mean accuracy, and that accuracy.

        The lowest of several noisy means is too low on average: compare sets, or choose the group
        on other test images.
        """
        found = self.accuracies_by_group(condition)
        worst = min(found, key=lambda name: found[name].mean)
        return worst, found[worst]

    def gap(self, condition: str) -> float:
        """Returns the difference between the highest and the lowest mean accuracy of groups."""
        means = [mean.mean for mean in self.accuracies_by_group(condition).values()]
        return max(means) - min(means)

    def _correct(self, condition: str) -> Tensor:
        return self.correct[:, self.conditions.index(condition)]


def groups_of(groups: Sequence[object] | None, labels: Tensor, classes: Sequence[str]) -> Groups:
    """Returns the groups of the test images; by default the classes.

    Args:
        groups: One label per test image, in their order.
        labels: The classes of the test images (N,).
        classes: The names of the classes.

    Raises:
        InputError: If the number of labels is not that of the test images, or a label is empty,
            or all are the same.
    """
    if groups is None:
        return Groups(labels, tuple(classes))
    given = [str(group) for group in groups]
    if len(given) != len(labels):
        raise InputError(
            f"`groups` has {len(given)} labels for {len(labels)} test images: pass one for each"
        )
    if "" in given:  # which stands for all groups together in tables
        raise InputError(
            f"test image {given.index('')} is in a group without a name: name each group"
        )
    names = sorted(set(given))
    if len(names) < 2:
        raise InputError(f"all test images are in the group {names[0]!r}: pass at least two groups")
    numbers = {name: k for k, name in enumerate(names)}
    return Groups(torch.tensor([numbers[group] for group in given]), tuple(names))


@dataclass(frozen=True)
class Groups:
    """The groups of test images.

    Attributes:
        of_image: The number of each image's group (N,).
        names: The names of the groups.
    """

    of_image: Tensor
    names: tuple[str, ...]


def audit(
    trained: TrainedOn,
    conditions: Sequence[Condition],
    groups: Groups,
    *,
    num_eval: int,
    seed: int,
    accelerator: Accelerator,
    workers: Workers = SERIAL,
    on_network: Callable[[], object] = lambda: None,
    say: Callable[[str], object] = lambda line: None,
) -> Answers:
    """Trains networks on a set, and tests them on the test images under several conditions.

    Args:
        trained: The set, the real data, the recipe and the architecture.
        conditions: The conditions.
        groups: The groups of the test images.
        num_eval: The number of networks.
        seed: Seeds the networks as [`evaluate`][sdc_ext.evaluation.evaluate] does, the corruptions,
            which are the same for all networks, and the attacks.
        accelerator: The device and the precision; networks are divided among its processes.
        workers: The workers that train the networks side by side.
        on_network: Called after every network that this process has tested.
        say: Called about workers that were lost.
    """
    found = map_in_launch(
        workers,
        accelerator,
        _Tested.answers,
        _Tested(trained, conditions, seed, accelerator),
        range(num_eval),
        on_done=lambda index, correct: on_network(),
        say=say,
    )
    correct = torch.tensor(found)
    names = tuple(condition.name for condition in conditions)
    return Answers(names, correct, groups.of_image, groups.names)


@dataclass(frozen=True)
class _Tested:
    trained: TrainedOn
    conditions: Sequence[Condition]
    seed: int
    accelerator: Accelerator

    def answers(self, k: int) -> list[list[bool]]:
        """Returns which test images network k gets right, one list per condition."""
        loss = BatchLoss.of(self.accelerator)
        network = trained_network(self.trained, self.seed, k, loss, self.accelerator.device)
        network.eval().requires_grad_(False)
        return [self._under(condition, network, k) for condition in self.conditions]

    def _under(self, condition: Condition, network: nn.Module, k: int) -> list[bool]:
        # The networks of all sets see the same noise, so that sets compare in pairs.
        seed_torch(self.seed, condition.name, k if condition.is_attack else 0)
        test, correct = self.trained.data.test, []
        for images, labels in split_batch(test.images, test.labels, _AT_ONCE):
            pixels = as_pixels(images.to(self.accelerator.device))
            targets = labels.to(pixels.device)
            normalisation = self.trained.data.preprocessing
            seen = condition.changed(pixels, targets, network, normalisation)
            with torch.no_grad():
                answers = network(self.trained.data.normalize(seen)).argmax(1)
            correct += (answers == targets).tolist()
        return correct

"""Baselines that choose real images: random, herding, k-center, forgetting.

They are what distillation has to beat (SDC paper, Tables 1 and 2). All but ``random`` rank images
by statistics of a network trained on the real data: its features, or how often it forgot an image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from sdc_ext._options import YOUR_CHOICE
from sdc_ext._seeds import seed_torch
from sdc_ext._words import number_of
from sdc_ext.data.real import RealData
from sdc_ext.errors import InputError, check_choice
from sdc_ext.networks.create import create_network
from sdc_ext.networks.features import outputs_of, take_features
from sdc_ext.sets.decoding import Decoder
from sdc_ext.sets.info import SetInfo
from sdc_ext.sets.synthetic_set import SyntheticSet, class_labels
from sdc_ext.training.epochs import normalized_batches
from sdc_ext.training.gradients import BatchLoss
from sdc_ext.training.probe import Batches, Probe, train_probe
from sdc_ext.training.recipe import TrainingRecipe, train_from_scratch


@dataclass(frozen=True)
class ProbeStatistics:
    """Statistics of every training image, collected while a network was trained on all of them.

    Attributes:
        features: The inputs of the network's last linear layer after training (N, D).
        forgotten: The number of times that an image was classified correctly after one epoch and
            wrongly after the next (N,); the number of epochs if it was never correct.
    """

    features: Tensor
    forgotten: Tensor


def herding(seen: ProbeStatistics, index: Tensor, ipc: int) -> Tensor:
    """Chooses images one by one so that their mean feature stays closest to the class's.

    Args:
        seen: The statistics of all training images.
        index: The positions of the class's images.
        ipc: The number of images to choose.

    Returns:
        Positions (ipc,).

    Reference: Welling, "Herding Dynamical Weights to Learn" (2009).
    """
    features = seen.features[index]
    target = features.mean(0)
    chosen: list[int] = []
    total = torch.zeros_like(target)
    for k in range(1, ipc + 1):
        distance = (target - (total + features) / k).norm(dim=1)
        distance[chosen] = torch.inf
        chosen.append(int(distance.argmin()))
        total += features[chosen[-1]]
    return index[chosen]


def k_center(seen: ProbeStatistics, index: Tensor, ipc: int) -> Tensor:
    """Chooses the image nearest to the class mean, then always the one farthest from all chosen.

    The arguments and the result are those of ``herding``.

    Reference: Sener and Savarese, "Active Learning for CNNs: A Core-Set Approach" (2018).
    """
    features = seen.features[index]
    chosen = [int((features - features.mean(0)).norm(dim=1).argmin())]
    nearest = (features - features[chosen[0]]).norm(dim=1)
    while len(chosen) < ipc:
        nearest[chosen] = -1.0
        chosen.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, (features - features[chosen[-1]]).norm(dim=1))
    return index[chosen]


def forgetting(seen: ProbeStatistics, index: Tensor, ipc: int) -> Tensor:
    """Chooses the images that were forgotten most often; ties are broken at random.

    The arguments and the result are those of ``herding``.

    Reference: Toneva et al., "An Empirical Study of Example Forgetting" (2019).
    """
    shuffled = index[torch.randperm(len(index))]
    order = seen.forgotten[shuffled].argsort(descending=True, stable=True)
    return shuffled[order[:ipc]]


def pick_at_random(index: Tensor, n: int) -> Tensor:
    """Draws ``n`` different entries of ``index`` uniformly at random, or all if there are fewer."""
    return index[torch.randperm(len(index))[:n]]


_BY_STATISTICS: dict[str, Callable[[ProbeStatistics, Tensor, int], Tensor]] = {
    "herding": herding,
    "k-center": k_center,
    "forgetting": forgetting,
}

BASELINES = ("random", *_BY_STATISTICS)


def select_images(
    baseline: str,
    data: RealData,
    ipc: int,
    probe: Probe,
    *,
    seed: int,
    device: torch.device,
    on_epoch: Callable[[], object] = lambda: None,
) -> Tensor:
    """Chooses ``ipc`` training images per class.

    Args:
        baseline: ``"random"``, ``"herding"``, ``"k-center"`` or ``"forgetting"``.
        data: The real data.
        ipc: The number of images per class.
        probe: The network whose statistics rank the images, and its training; ``"random"``
            ignores it.
        seed: Seeds the network and all random choices.
        device: The device on which the network is trained.
        on_epoch: Called after every epoch of training.

    Returns:
        Positions in ``data.train`` (classes * ipc,), sorted by class.

    Raises:
        InputError: If a class has fewer than ``ipc`` images, ``ipc`` is below 1, or the baseline
            is unknown.
    """
    check_choice("baseline", baseline, BASELINES)
    by_class = data.indices_by_class()
    fewest = min(map(len, by_class))
    if not 1 <= ipc <= fewest:
        raise InputError(f"ipc must be from 1 to {fewest}, the smallest class's size, got {ipc}")
    choose = pick_at_random
    if baseline != "random":
        seen = probe_statistics(data, probe, seed=seed, device=device, on_epoch=on_epoch)
        choose = partial(_BY_STATISTICS[baseline], seen)
    seed_torch(seed, "selection")
    return torch.cat([choose(index, ipc) for index in by_class])


def selected_set(
    baseline: str,
    data: RealData,
    ipc: int,
    *,
    probe: Probe,
    recipe: TrainingRecipe,
    seed: int,
    device: torch.device,
    factor: int = 1,
    on_epoch: Callable[[], object] = lambda: None,
) -> SyntheticSet:
    """Returns real images in the form of a distilled set, with ``baseline`` as its method.

    See [`select_images`][sdc_ext.evaluation.select_images] for the arguments that are not listed.

    Args:
        baseline: ``"random"``, ``"herding"``, ``"k-center"`` or ``"forgetting"``.
        data: The real data.
        ipc: The number of stored images per class.
        probe: The network whose statistics rank the images, and its training.
        recipe: The recipe by which networks are to be trained on the set.
        seed: Seeds the network and all random choices.
        device: The device on which the network is trained.
        factor: Shrinks ``factor ** 2`` real images into each stored one; see
            [`Decoder`][sdc_ext.sets.Decoder].
        on_epoch: Called after every epoch of training.

    Raises:
        InputError: If a class has too few images, ``ipc`` is below 1, the baseline is unknown, or
            the factor does not divide the images' height and width.
    """
    decoder = Decoder(factor)
    decoder.check(data, ipc)
    number = ipc * decoder.parts
    index = select_images(
        baseline, data, number, probe, seed=seed, device=device, on_epoch=on_epoch
    )
    labels = class_labels(len(data.classes), ipc)
    info = replace(
        SetInfo.of_data(data, labels, recipe),
        method=baseline,
        network=probe.network,
        factor=factor,
        settings={
            "lam": {"value": 0.0, "source": "nothing is distilled"},
            "seed": {"value": seed, "source": YOUR_CHOICE},
        },
    )
    images = data.normalize(data.train.images[index]).cpu()
    return SyntheticSet.of(decoder.encode(images), labels, info, data)


def random_like(labels: Tensor, data: RealData, seed: int, draw: int = 0) -> Tensor:
    """Draws random training images, as many of each class as ``labels`` has.

    Args:
        labels: The classes to match (N,) int64.
        data: The real data.
        seed: Seeds the choice.
        draw: The index of the draw under this seed; draw 0 is the one of ``select_images``.

    Returns:
        Positions in ``data.train`` (N,), sorted by class.

    Raises:
        InputError: If a class has too few training images.
    """
    seed_torch(seed, "selection", draw)
    counts = labels.bincount(minlength=len(data.classes)).tolist()
    chosen = []
    for name, index, count in zip(data.classes, data.indices_by_class(), counts, strict=True):
        if len(index) < count:
            raise InputError(
                f"class {name!r} has {number_of(len(index), 'real image')}, fewer than the set's "
                f"{count}"
            )
        chosen.append(pick_at_random(index, count))
    return torch.cat(chosen)


def label_softly(
    images: Tensor,
    data: RealData,
    network: str,
    recipe: TrainingRecipe,
    *,
    seed: int,
    accelerator: Accelerator,
) -> Tensor:
    """Labels images with the probabilities of a teacher that is trained on all real images.

    Args:
        images: The images to label (N, C, H, W), normalised.
        data: The real data.
        network: The architecture of the teacher.
        recipe: The recipe by which the teacher is trained.
        seed: Seeds the teacher.
        accelerator: The device and the precision of its training.

    Returns:
        Probabilities (N, classes).
    """
    teacher = train_teacher(data, network, recipe, seed=seed, accelerator=accelerator)
    return soft_labels(teacher, images)


def train_teacher(
    data: RealData,
    network: str,
    recipe: TrainingRecipe,
    *,
    seed: int,
    accelerator: Accelerator,
    compile: bool = False,
) -> nn.Module:
    """Returns a network that is trained on all real images; see ``label_softly``."""
    device, batch_loss = accelerator.device, BatchLoss.of(accelerator, compile=compile)
    seed_torch(seed, "teacher")
    teacher = create_network(network, *data.network_shape).to(device)
    real = data.normalize(data.train.images).to(device)
    labels = data.train.labels.to(device)
    train_from_scratch(teacher, real, labels, recipe, batch_loss, data.preprocessing)
    return teacher.eval()


def soft_labels(teacher: nn.Module, images: Tensor) -> Tensor:
    """Returns the probabilities (N, classes) that a teacher gives images (N, C, H, W)."""
    return outputs_of(teacher, images).softmax(1)


def probe_statistics(
    data: RealData,
    probe: Probe,
    *,
    seed: int,
    device: torch.device,
    on_epoch: Callable[[], object] = lambda: None,
) -> ProbeStatistics:
    """Trains a network on the real training images and returns its statistics of each image."""
    batches = normalized_batches(data, data.train, device)
    right = torch.zeros(len(data.train), dtype=torch.bool)
    ever, forgotten = right.clone(), torch.zeros(len(data.train), dtype=torch.int64)

    def note(network: nn.Module) -> None:
        nonlocal right, ever, forgotten
        now = _correct(network, batches)
        forgotten += right & ~now
        right, ever = now, ever | now
        on_epoch()

    network = train_probe(data, probe, batches, seed=seed, device=device, on_epoch=note)
    forgotten[~ever] = probe.train_epochs
    return ProbeStatistics(take_features(network, (x for x, _ in batches)), forgotten)


@torch.inference_mode()
def _correct(network: nn.Module, batches: Batches) -> Tensor:
    network.eval()
    return torch.cat([(network(x).argmax(-1) == y).cpu() for x, y in batches])

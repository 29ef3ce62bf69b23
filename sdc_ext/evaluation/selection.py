"""Real images chosen as a distilled set: random, herding, k-center, forgetting.

What distillation has to beat (the SDC paper's Tables 1 and 2). All but random look at a network
that was trained on the real data: its features, or what it forgot on the way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from sdc_ext._options import YOUR_CHOICE
from sdc_ext._seeds import seed_torch
from sdc_ext.data.real import RealData
from sdc_ext.errors import InputError, check_choice
from sdc_ext.networks.create import create_network
from sdc_ext.networks.features import take_features
from sdc_ext.sets.info import SetInfo
from sdc_ext.sets.synthetic_set import SyntheticSet, class_labels
from sdc_ext.training.epochs import normalized_batches
from sdc_ext.training.gradients import BatchLoss
from sdc_ext.training.probe import Batches, Probe, train_probe
from sdc_ext.training.recipe import TrainingRecipe, train_from_scratch


@dataclass(frozen=True)
class ProbeStatistics:
    """What a network noted of every training image while it was trained on them.

    Attributes:
        features: input of its last linear layer (N, D), after training.
        forgotten: how often an image went from right to wrong from one epoch to the next; as
            many as epochs for one that was never right (N,).
    """

    features: Tensor
    forgotten: Tensor


def herding(seen: ProbeStatistics, index: Tensor, ipc: int) -> Tensor:
    """Images whose running mean of features stays closest to their class's (Welling, 2009)."""
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
    """The image nearest to the class's mean, then always the one farthest from those chosen."""
    features = seen.features[index]
    chosen = [int((features - features.mean(0)).norm(dim=1).argmin())]
    nearest = (features - features[chosen[0]]).norm(dim=1)
    while len(chosen) < ipc:
        nearest[chosen] = -1.0
        chosen.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, (features - features[chosen[-1]]).norm(dim=1))
    return index[chosen]


def forgetting(seen: ProbeStatistics, index: Tensor, ipc: int) -> Tensor:
    """The images that were forgotten most often (Toneva et al., 2019), ties at random."""
    shuffled = index[torch.randperm(len(index))]
    order = seen.forgotten[shuffled].argsort(descending=True, stable=True)
    return shuffled[order[:ipc]]


def pick_at_random(index: Tensor, n: int) -> Tensor:
    """``n`` different positions of ``index``, each as likely as any other."""
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
    """Positions in ``data.train`` of ``ipc`` images a class, sorted by class.

    Args:
        baseline: one of ``BASELINES``.
        data: the real data.
        ipc: images per class.
        probe: how the network that is looked through is trained; random needs none.
        seed: of that network and of random choices.
        device: where it is trained.
        on_epoch: called after every epoch of it.

    Raises:
        InputError: if a class has fewer than ``ipc`` images, ``ipc`` is below 1, or the baseline
            is unknown.
    """
    check_choice("baseline", baseline, BASELINES)
    by_class = data.indices_by_class()
    fewest = min(map(len, by_class))
    if not 1 <= ipc <= fewest:
        raise InputError(f"ipc must be from 1 to {fewest}, the smallest class's images, got {ipc}")
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
    on_epoch: Callable[[], object] = lambda: None,
) -> SyntheticSet:
    """Real images as a distilled set, with ``baseline`` as its method.

    Args:
        baseline: One of ``BASELINES``.
        data: The real data.
        ipc: Images per class.
        probe: How the network is trained whose statistics rank the images; random needs none.
        recipe: How networks are to be trained on the set.
        seed: Seeds that network and random choices.
        device: Where it is trained.
        on_epoch: Called after every epoch of it.

    Raises:
        InputError: If a class has fewer than ``ipc`` images, ``ipc`` is below 1, or the baseline
            is unknown.
    """
    index = select_images(baseline, data, ipc, probe, seed=seed, device=device, on_epoch=on_epoch)
    labels = class_labels(len(data.classes), ipc)
    info = replace(
        SetInfo.of_data(data, labels, recipe),
        method=baseline,
        network=probe.network,
        settings={
            "lam": {"value": 0.0, "source": "nothing is distilled"},
            "seed": {"value": seed, "source": YOUR_CHOICE},
        },
    )
    images = data.normalize(data.train.images[index]).cpu()
    return SyntheticSet.of(images, labels, info, data)


def random_like(labels: Tensor, data: RealData, seed: int, draw: int = 0) -> Tensor:
    """Positions in ``data.train`` of random images, of each class as many as ``labels`` has.

    Args:
        labels: (N,) int64.
        data: the real data.
        seed: of the choice.
        draw: which choice of this seed; the first is that of ``select_images``.

    Returns:
        (N,), sorted by class.

    Raises:
        InputError: if a class has fewer images.
    """
    seed_torch(seed, "selection", draw)
    counts = labels.bincount(minlength=len(data.classes)).tolist()
    chosen = []
    for name, index, count in zip(data.classes, data.indices_by_class(), counts, strict=True):
        if len(index) < count:
            raise InputError(f"class {name!r} has {len(index)} real images, fewer than {count}")
        chosen.append(pick_at_random(index, count))
    return torch.cat(chosen)


def label_softly(
    images: Tensor,
    data: RealData,
    network: str,
    recipe: TrainingRecipe,
    *,
    seed: int,
    device: torch.device,
) -> Tensor:
    """Probabilities (N, classes) that a teacher, trained on all real images, gives to images.

    Args:
        images: (N, C, H, W), normalised.
        data: the real data.
        network: the teacher's architecture.
        recipe: how it is trained.
        seed: of the teacher.
        device: where it is trained.
    """
    seed_torch(seed, "teacher")
    teacher = create_network(network, *data.network_shape).to(device)
    real = data.normalize(data.train.images).to(device)
    train_from_scratch(teacher, real, data.train.labels.to(device), recipe, BatchLoss())
    with torch.no_grad():
        probabilities: Tensor = teacher.eval()(images.to(device)).softmax(1)
    return probabilities


def probe_statistics(
    data: RealData,
    probe: Probe,
    *,
    seed: int,
    device: torch.device,
    on_epoch: Callable[[], object] = lambda: None,
) -> ProbeStatistics:
    """Trains a probe on the real training images and notes what it sees of each."""
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

"""Chooses representative real images: those nearest to the centres of clusters (DREAM)."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from sdc_ext._options import MATCHING, option
from sdc_ext.adapters.task import Task
from sdc_ext.networks.chunks import default_chunk_size
from sdc_ext.networks.features import take_features

Sampling: TypeAlias = Literal["random", "representative"]

# Images per cluster from which a batch is chosen. They go forward once per clustering, so this
# bounds its cost at that of four batches without gradients, however large the class is.
PER_CLUSTER = 4

# Images that are normalised at once.
_AT_ONCE = 256


def sampling_option() -> Any:
    """Makes the field ``sampling`` of a loop."""
    text = "real images that are matched: random, or representative ones by clustering (DREAM)"
    return option("random", text, group=MATCHING)


def refresh_option() -> Any:
    """Makes the field ``refresh_every`` of a loop."""
    text = "number of image updates after which the next iteration clusters anew"
    return option(10, text, "DREAM's script", MATCHING)


def nearest_to_centres(features: Tensor, n: int, seed: int) -> Tensor:
    """Clusters samples by k-means, and chooses the one nearest to the centre of each cluster.

    As in DREAM, k-means starts once from random samples. Unlike there, no sample is chosen twice:
    the next nearest takes its place, since two equal initial images would stay equal.

    Args:
        features: The features of one class (N, D), on the CPU.
        n: The number of clusters, from 1 to N.
        seed: Seeds the initial centres.

    Returns:
        Positions (n,), all different; the first ones if the features are not finite, which the
        loss reports.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    if not bool(features.norm().isfinite()):
        return torch.arange(n)
    kmeans = KMeans(n, init="random", n_init=1, random_state=seed)
    # Several threads would sum the centres in another order every time.
    with threadpool_limits(1, user_api="openmp"), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # equal images leave clusters empty
        kmeans.fit(features.numpy())
    distances = torch.cdist(torch.from_numpy(kmeans.cluster_centers_), features)
    chosen: list[int] = []
    for of_centre in distances:
        of_centre[chosen] = torch.inf
        chosen.append(int(of_centre.argmin()))
    return torch.tensor(chosen)


def representative_indices(
    task: Task, network: nn.Module, n: int, *, candidates: int
) -> list[Tensor]:
    """Returns the positions of ``n`` representative training images for each class.

    The features are the inputs of the network's last linear layer, as in DREAM. The images are
    normalised and not augmented; DREAM's script passes them to the network in [0, 1]. The classes
    are divided among processes, and every process returns all of them.

    Args:
        task: The task with the real data.
        network: The network whose features are clustered. It is copied, and the copy is in
            evaluation mode, so that an image's features do not depend on its batch; the statistics
            of its batch norm, if any, are the initial ones.
        n: The number of images per class; a smaller class is used whole.
        candidates: The number of images per class that are drawn at random and clustered; DREAM
            clusters the whole class.

    Returns:
        One int64 tensor per class, on the CPU.
    """
    seeds = torch.randint(2**31, (task.num_classes,)).tolist()
    drawn = [task.draw_indices(label, candidates) for label in range(task.num_classes)]
    found = [torch.zeros(min(n, len(index)), dtype=torch.int64) for index in drawn]
    network = copy.deepcopy(network)
    process = task.accelerator
    for label in range(process.process_index, task.num_classes, process.num_processes):
        index = drawn[label]
        if len(index) > n:
            features = take_features(network, _chunks(task, index))
            index = index[nearest_to_centres(features, n, seeds[label])]
        found[label] = index
    shared = task.reduce(torch.cat(found).to(process.device)).cpu()
    return list(torch.split(shared, [len(index) for index in found]))


@dataclass(frozen=True)
class RepresentativeBatches:
    """The representative real images of all classes, which serve several updates in a row.

    DREAM's script clusters every 10 updates by the features of the network as it is trained on.
    Here an iteration clusters at its start at most, by the features of its new network. The choice
    then depends on the seed alone, so that several processes choose what one does.

    Attributes:
        chosen: The positions of each class's images in ``data.train``.
        updates: The number of updates that they have served.

    Reference: Liu et al., "DREAM: Efficient Dataset Distillation by Representative Matching",
    ICCV 2023, and ``query`` in ``new_strategy.py`` of its repository.
    """

    chosen: list[Tensor]
    updates: int = 0

    @classmethod
    def choose(cls, task: Task, network: nn.Module, batch_real: int) -> RepresentativeBatches:
        """Clusters each class into as many clusters as a batch has images, as in DREAM."""
        candidates = PER_CLUSTER * batch_real
        return cls(representative_indices(task, network, batch_real, candidates=candidates))


def _chunks(task: Task, index: Tensor) -> Iterator[Tensor]:
    """Yields the normalised images at some positions in chunks that suit the device."""
    for part in torch.split(index, _AT_ONCE):
        images = task.real_images(part)
        yield from torch.split(images, default_chunk_size(images))

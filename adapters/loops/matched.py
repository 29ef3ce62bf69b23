"""Measures now and then how hard the images are that a loop matches, real and synthetic.

Does matching use hard samples (SDC paper, Section 3.1)? The measures answer this for the network
at hand: they compare the real images that are matched with the synthetic ones and, where the real
images are chosen, with those that they were chosen from. Nothing of the run depends on them.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils import vector_to_parameters

from sdc_ext._options import COMPUTING, OURS, option
from sdc_ext.adapters.loops.easy_samples import EasySamples
from sdc_ext.adapters.loops.segments import Segment
from sdc_ext.adapters.loops.states import TrajectoryState
from sdc_ext.adapters.loops.steps import ClassBatch, own_batches
from sdc_ext.adapters.task import Task
from sdc_ext.evaluation.difficulty import score_samples
from sdc_ext.networks.chunks import uses_batch_statistics
from sdc_ext.sets.history import MEASURED

# The images of a class that are scored, of each kind.
_PER_CLASS = 8

# The gradient of a single image takes up to this many times as long as that of one in a batch
# (docs/why.md).
_PASSES = 4


def cost_option() -> Any:
    """Makes the field ``measure_cost`` of a loop."""
    return option(
        0.01,
        "largest part of the work for measuring how hard the matched images are; 0 for none",
        OURS,
        COMPUTING,
    )


class Measures(Protocol):
    """What this module needs of a loop."""

    @property
    def measure_cost(self) -> float:
        """The largest part of the run's work that measures may take, in [0, 1]."""

    def images_per_iteration(self, classes: int, ipc: int) -> int:
        """See [`Loop`][sdc_ext.adapters.Loop]."""


def is_due(loop: Measures, task: Task, iteration: int) -> bool:
    """Returns whether an iteration, an index from 0, measures the images' difficulty."""
    if loop.measure_cost == 0:
        return False
    scored = len(MEASURED) * task.num_classes * _PER_CLASS * _PASSES
    work = loop.images_per_iteration(task.num_classes, task.ipc)
    every = math.ceil(scored / (loop.measure_cost * work))
    return iteration % every == every - 1


def batch_difficulty(
    network: nn.Module,
    images: Tensor,
    batches: Sequence[ClassBatch],
    task: Task,
    iteration: int,
    *,
    easy: EasySamples | None = None,
    chosen: bool = False,
) -> dict[str, float]:
    """Measures the difficulty of the batches of gradient and distribution matching.

    Args:
        network: The current network, which is scored in evaluation mode and not changed.
        images: The stored synthetic images (N, C, H, W).
        batches: The batches of all classes, which are divided among processes.
        task: The task with the real data.
        iteration: The index of the outer iteration, which seeds the images to compare with.
        easy: Has chosen the real images of each batch that are matched, if not all are.
        chosen: Whether the batches are chosen, rather than random images of their classes.

    Returns:
        GraDN and the loss as means over ``real``, the first images of each batch that are matched;
        over ``syn``, the synthetic ones; and if the real ones are chosen, over ``drawn``, random
        ones of the same classes. Nothing for a network that uses batch statistics, under
        which a sample has no gradient of its own.
    """
    if uses_batch_statistics(network):
        return {}
    network = copy.deepcopy(network).eval()
    sums = torch.zeros(len(MEASURED), 3, device=images.device)
    for batch in own_batches(task, batches):
        whole = batch.real()
        matched = others = whole[:_PER_CLASS]
        if easy is not None:
            matched = whole[easy.matched[batch.label][:_PER_CLASS]]
        if chosen:
            others = batch.corrupted(task.real_images(_random_images(task, batch.label, iteration)))
        drawn = real = _score(network, batch.replay(matched), batch.label)
        if others is not matched:
            drawn = _score(network, batch.replay(others), batch.label)
        seen = batch.seen(images[batch.rows].detach())[:_PER_CLASS]
        synthetic = _score(network, seen, batch.label)
        sums += torch.stack([rows.sum(0) for rows in (real, drawn, synthetic)]).to(sums)
    means = _means(task.reduce(sums))
    return means if chosen or easy is not None else _without_drawn(means)


def student_difficulty(
    state: TrajectoryState, segment: Segment, task: Task, iteration: int
) -> dict[str, float]:
    """Measures the difficulty of real and synthetic images for the student of trajectory matching.

    No real images are matched there, so random ones stand for those that the experts saw.

    Args:
        state: The state of the loop, which is not changed.
        segment: The segment, whose first parameters the student starts with.
        task: The task with the real data.
        iteration: The index of the outer iteration, which seeds the choice of real images.

    Returns:
        GraDN and the loss as means over ``real`` and ``syn`` images; nothing for a network that
        uses batch statistics.
    """
    student = state.students[segment.member].network
    if uses_batch_statistics(student):
        return {}
    network = copy.deepcopy(student).eval()
    vector_to_parameters(segment.start, network.parameters())
    drawn = (_random_images(task, label, iteration) for label in range(task.num_classes))
    real = [_score(network, task.real_images(index), c) for c, index in enumerate(drawn)]
    images = state.decoder.decode(state.images.detach())
    labels = state.decoder.repeat(state.targets.detach())
    of_class = torch.arange(len(images), device=images.device).view(task.num_classes, -1)
    index = of_class[:, :_PER_CLASS].flatten()  # the images are sorted by class
    synthetic = _score(network, images[index], labels[index]).sum(0)
    sums = torch.stack([torch.cat(real).sum(0), torch.zeros_like(synthetic), synthetic])
    return _without_drawn(_means(sums))


def _score(network: nn.Module, images: Tensor, labels: Tensor | int) -> Tensor:
    """Returns rows (n, 3) of 1, GraDN and loss, on the CPU."""
    if isinstance(labels, int):
        labels = torch.full((len(images),), labels, device=images.device)
    scored = score_samples(network, images, labels)
    return torch.stack([torch.ones_like(scored.gradn), scored.gradn, scored.loss], 1)


def _random_images(task: Task, label: int, iteration: int) -> Tensor:
    """Draws training images of a class, by a generator of its own: the run's draws stay alone."""
    index = task.class_indices[label]
    own = torch.Generator().manual_seed(iteration * len(task.class_indices) + label)
    return index[torch.randperm(len(index), generator=own)[:_PER_CLASS]]


def _means(sums: Tensor) -> dict[str, float]:
    found = {}
    for kind, (count, gradn, loss) in zip(MEASURED, sums.tolist(), strict=True):
        found[f"{kind}_gradn"] = gradn / count if count else math.nan
        found[f"{kind}_loss"] = loss / count if count else math.nan
    return found


def _without_drawn(means: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in means.items() if not name.startswith("drawn")}

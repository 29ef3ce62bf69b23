"""The experts of a run's networks, and the segments of their trajectories that are matched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sdc_ext.adapters.task import Task
from sdc_ext.errors import InputError
from sdc_ext.experts.base import Experts
from sdc_ext.experts.pool import ExpertPool
from sdc_ext.networks.functional import FunctionalNetwork


@dataclass(frozen=True)
class Segment:
    """A part of an expert's trajectory, which a student is to cover in an outer iteration.

    Attributes:
        member: The index of the expert's network in the pool.
        epoch: The start epoch.
        start: The expert's parameters (P,) at the start epoch.
        target: Its parameters (P,) at the target epoch.
    """

    member: int
    epoch: int
    start: Tensor
    target: Tensor

    @classmethod
    def draw(cls, task: Task, member: int, epochs: range, length: int) -> Segment:
        """Draws an expert of a network, and a start epoch.

        Args:
            task: The task with the experts.
            member: The index of the network in the pool.
            epochs: The start epochs to draw from.
            length: The number of epochs from the start to the target.
        """
        experts = experts_by_network(task)[member]
        expert = int(torch.randint(len(experts), ()))
        epoch = int(torch.randint(epochs.start, epochs.stop, ()))
        start, target = (
            experts.parameters(expert, at).to(task.accelerator.device)
            for at in (epoch, epoch + length)
        )
        return cls(member, epoch, start, target)


def needed_experts(task: Task) -> Experts:
    """Returns the experts of a task.

    Raises:
        InputError: If it has none.
    """
    if task.experts is None:
        raise InputError(
            "trajectory matching needs expert trajectories: train some with sdc-ext experts"
        )
    return task.experts


def experts_by_network(task: Task) -> tuple[Experts, ...]:
    """Returns the experts of each network of the pool.

    Raises:
        InputError: If the task does not have experts for each of them.
    """
    experts = needed_experts(task)
    parts = experts.parts if isinstance(experts, ExpertPool) else (experts,)
    if len(parts) != len(task.pool):
        raise InputError(
            f"the pool {task.network} has {len(task.pool)} networks, but there are experts for "
            f"{len(parts)}: pass an ExpertPool with experts for each"
        )
    return parts


def last_parameters(
    task: Task, students: Sequence[FunctionalNetwork]
) -> Iterator[tuple[FunctionalNetwork, Tensor]]:
    """Yields the network and the last parameters (P,) of every expert, one network at a time.

    Args:
        task: The task with the experts.
        students: The networks of the pool.
    """
    for student, experts in zip(students, experts_by_network(task), strict=True):
        for expert in range(len(experts)):
            yield student, experts.parameters(expert, -1).to(task.accelerator.device)

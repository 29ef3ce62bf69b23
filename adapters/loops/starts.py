"""The initial images of the loops, and how many of them a stored image holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sdc_ext._options import IMAGES, OURS, option
from sdc_ext.adapters.loops.expert_labels import expert_logits, first_correct
from sdc_ext.adapters.loops.representative import PER_CLUSTER, representative_indices
from sdc_ext.adapters.loops.segments import last_parameters
from sdc_ext.adapters.task import Task
from sdc_ext.networks.functional import FunctionalNetwork
from sdc_ext.sets.decoding import Decoder

# Images per class from which representative ones are chosen; with 1000 they were no better on
# MNIST.
_CANDIDATES = 500


def factor_option() -> Any:
    """Makes the field ``factor`` of a loop; see [`Decoder`][sdc_ext.sets.Decoder]."""
    text = "each stored image holds N x N smaller ones, which networks see enlarged (IDC)"
    return option(1, text, OURS, IMAGES)


def initial_images(
    task: Task,
    decoder: Decoder,
    init: str,
    choose: Callable[[int, int], Tensor] | None = None,
) -> Tensor:
    """Returns the stored images (N, C, H, W) that a run starts from, on the device.

    Args:
        task: The task, which sets the number, the size and the device of the images.
        decoder: Puts as many real images into a stored one as it decodes it to.
        init: ``"noise"`` for Gaussian noise, ``"representative"`` for the real images nearest to
            the centres of clusters in the features of a random network; otherwise real images.
        choose: Maps a class and a number to the positions of that many real images of the class;
            by default they are random.
    """
    if init == "noise":
        shape = (task.num_classes * task.ipc, task.data.channels, *task.data.image_size)
        return torch.randn(shape).to(task.accelerator.device)  # the same on every device
    number = task.ipc * decoder.parts
    if init == "representative":
        candidates = max(PER_CLUSTER * number, _CANDIDATES)
        index = representative_indices(task, task.new_network(), number, candidates=candidates)
    else:
        choose = choose or task.draw_indices
        index = [choose(label, number) for label in range(task.num_classes)]
    return decoder.encode(task.real_images(torch.cat(index)))


def correctly_classified(
    students: Sequence[FunctionalNetwork], task: Task, label: int, number: int
) -> Tensor:
    """Returns the positions (number,) of random real images that experts classify correctly.

    Args:
        students: The networks of the pool.
        task: The task with the real data and the experts, whose last parameters classify.
        label: The index of the class.
        number: The number of images, at most as many as the class has.
    """

    def classify(student: FunctionalNetwork, theta: Tensor, index: Tensor) -> Tensor:
        return expert_logits(student, theta, task.real_images(index)).argmax(-1)

    index = task.draw_indices(label, len(task.class_indices[label]))
    predict = (partial(classify, *end) for end in last_parameters(task, students))
    return first_correct(predict, index, label, number)

"""The initial images of the loops, and how many of them a stored image holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sdc_ext._options import IMAGES, option
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
    return option(1, text, "sdc-ext default", IMAGES)


def noise(task: Task) -> Tensor:
    """Returns stored images (N, C, H, W) of Gaussian noise."""
    return torch.randn(task.num_classes * task.ipc, task.data.channels, *task.data.image_size)


def real_start(task: Task, decoder: Decoder, choose: Callable[[int, int], Tensor]) -> Tensor:
    """Returns stored images (N, C, H, W) that hold real images.

    Args:
        task: The task, with the number of stored images per class.
        decoder: Puts as many real images into a stored one as it decodes it to.
        choose: Maps a class and a number to the positions of that many real images of the class.
    """
    number = task.ipc * decoder.parts
    index = torch.cat([choose(label, number) for label in range(task.num_classes)])
    return decoder.encode(task.real_images(index))


def representative_start(task: Task, decoder: Decoder) -> Tensor:
    """Returns stored images (N, C, H, W) that hold representative real images.

    They are chosen by the features of a random network; see ``representative_indices``.

    Args:
        task: The task, with the number of stored images per class.
        decoder: Puts as many real images into a stored one as it decodes it to.
    """
    number = task.ipc * decoder.parts
    candidates = max(PER_CLUSTER * number, _CANDIDATES)
    index = representative_indices(task, task.new_network(), number, candidates=candidates)
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

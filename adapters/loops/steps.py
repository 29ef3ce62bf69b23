"""What gradient and distribution matching share: one class's batch, and a step's result."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from sdc_ext.adapters.task import Task
from sdc_ext.augment.base import Augmentation, Replay
from sdc_ext.errors import DivergenceError
from sdc_ext.regularizer import Corrected


@dataclass(frozen=True)
class ClassBatch:
    """One class's part in a matching step.

    Attributes:
        label: the class.
        real: gives images (B, C, H, W), normalised, not yet augmented; called when it is the
            class's turn, so that one class's images are in memory at a time.
        rows: where the class's images lie in the synthetic set.
        replay: the augmentation drawn for this class, for real and synthetic images alike.
    """

    label: int
    real: Callable[[], Tensor]
    rows: slice
    replay: Replay


def draw_batches(task: Task, augmentation: Augmentation, batch_real: int) -> list[ClassBatch]:
    """A batch of every class. All processes draw for all classes, so that all draw the same."""
    return [
        ClassBatch(
            label,
            partial(task.real_images, task.draw_indices(label, batch_real)),
            slice(label * task.ipc, (label + 1) * task.ipc),
            augmentation.draw(task.data.image_size),
        )
        for label in range(task.num_classes)
    ]


def own_batches(task: Task, batches: Sequence[ClassBatch]) -> Sequence[ClassBatch]:
    """The batches of the classes that this process computes; of none, if there are too few."""
    accelerator = task.accelerator
    return batches[accelerator.process_index :: accelerator.num_processes]


@dataclass(frozen=True)
class StepResult:
    """Image gradient (N, C, H, W) of a matching step, and what it was the gradient of."""

    image_gradient: Tensor
    loss: Tensor
    matching: Tensor
    difficulty: Tensor

    @classmethod
    def of(cls, corrected: Corrected, image_gradient: Tensor) -> StepResult:
        """The result of a corrected loss with this gradient, detached."""
        loss = corrected.loss.detach()
        return cls(image_gradient, loss, corrected.matching, corrected.difficulty)

    @property
    def losses(self) -> Tensor:
        """Loss, matching loss and difficulty (3,)."""
        return torch.stack([self.loss, self.matching, self.difficulty])

    def each(self, function: Callable[[Tensor], Tensor]) -> StepResult:
        """The same with a function applied to the gradient and to the losses."""
        return StepResult(function(self.image_gradient), *function(self.losses))

    def log(self, lr_img: float) -> dict[str, float]:
        """What to record of the step.

        Raises:
            DivergenceError: if a loss or the gradient is not finite.
        """
        log = dict(zip(("loss", "matching", "difficulty"), self.losses.tolist(), strict=True))
        finite = bool(self.image_gradient.isfinite().all())
        if not (finite and all(math.isfinite(value) for value in log.values())):
            raise DivergenceError(
                f"the loss became {log['loss']} (matching {log['matching']}, GraDN "
                f"{log['difficulty']}): lower --lr-img (now {lr_img}) or --lam, and check that "
                "the data are normalised"
            )
        return log

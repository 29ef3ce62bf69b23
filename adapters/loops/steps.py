"""Building blocks of gradient and distribution matching: a class's batch, a step's result."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from sdc_ext._options import MATCHING, option
from sdc_ext.adapters.task import Task
from sdc_ext.augment.base import Augmentation, NoAugmentation, Replay
from sdc_ext.errors import DivergenceError
from sdc_ext.sdc_loss import Corrected, ImageGradients, SDCLoss
from sdc_ext.sets.decoding import AS_STORED, Decoder
from sdc_ext.strength import reweighted

AS_THEY_ARE = NoAugmentation()


def strategy_option(default: str) -> Any:
    """Makes the field ``dsa_strategy`` of a loop."""
    text = "siamese augmentation: none, e.g. color_crop, or kornia:Name(key=value)"
    return option(default, text, group=MATCHING)


def _as_they_are(images: Tensor) -> Tensor:
    return images


@dataclass(frozen=True)
class ClassBatch:
    """The part of one class in a matching step.

    Attributes:
        label: The index of the class.
        real: Returns the real images (B, C, H, W), normalised but not augmented. It is called when
            it is the class's turn, so that memory holds the images of one class at a time.
        rows: The rows of the class's stored images in the synthetic set.
        replay: The augmentation drawn for this class, applied to real and synthetic images alike.
        decoder: Decodes the stored images to those that networks see.
        corrupted: Changes the class's real images alone; ``real`` has done so already.
    """

    label: int
    real: Callable[[], Tensor]
    rows: slice
    replay: Replay
    decoder: Decoder = AS_STORED
    corrupted: Replay = _as_they_are

    def seen(self, stored: Tensor) -> Tensor:
        """Returns the class's stored images (n, C, H, W), decoded and augmented."""
        return self.replay(self.decoder.decode(stored))


def draw_batches(
    task: Task,
    augmentation: Augmentation,
    batch_real: int,
    decoder: Decoder = AS_STORED,
    chosen: Sequence[Tensor] | None = None,
    corruption: Augmentation = AS_THEY_ARE,
) -> list[ClassBatch]:
    """Draws real images, unless they are chosen already, and an augmentation for every class.

    Every process draws for all classes, so that their random numbers agree.

    Args:
        task: The task with the real data.
        augmentation: The augmentation to draw from, once per class.
        batch_real: The number of real images per class; a smaller class is used whole.
        decoder: Decodes the stored synthetic images to those that networks see.
        chosen: The positions of each class's images in ``data.train``, in place of random ones.
        corruption: Changes the real images alone, before they are augmented.
    """
    batches = []
    for label in range(task.num_classes):
        index = task.draw_indices(label, batch_real) if chosen is None else chosen[label]
        corrupted = corruption.draw(task.data.image_size)
        rows = slice(label * task.ipc, (label + 1) * task.ipc)
        replay = augmentation.draw(task.data.image_size)
        real = _real_images(task, index, corrupted)
        batches.append(ClassBatch(label, real, rows, replay, decoder, corrupted))
    return batches


def _real_images(task: Task, index: Tensor, corrupted: Replay) -> Callable[[], Tensor]:
    return lambda: corrupted(task.real_images(index))


def own_batches(task: Task, batches: Sequence[ClassBatch]) -> Sequence[ClassBatch]:
    """Returns the batches of the classes that this process computes; possibly none."""
    accelerator = task.accelerator
    return batches[accelerator.process_index :: accelerator.num_processes]


@dataclass(frozen=True)
class StepResult:
    """The result of a matching step, detached from any graph.

    Attributes:
        image_gradients: The gradients over the synthetic images (N, C, H, W), and whatever else is
            learnt, of the corrected loss and, if the share is measured in this update, of the term.
        loss: The corrected loss, a scalar.
        matching: The matching loss without the correction, a scalar.
        difficulty: GraDN, a scalar.
        term: The term at lam 1, a scalar.
    """

    image_gradients: ImageGradients
    loss: Tensor
    matching: Tensor
    difficulty: Tensor
    term: Tensor

    @classmethod
    def of(
        cls, corrected: Corrected, learnt: Tensor | Sequence[Tensor], loss_fn: SDCLoss
    ) -> StepResult:
        """Differentiates a corrected loss by the synthetic images, or by several tensors.

        Args:
            corrected: The corrected loss and its parts.
            learnt: The synthetic images (N, C, H, W); with other tensors, the images first.
            loss_fn: The matching loss with the correction.
        """
        leaves = [learnt] if isinstance(learnt, Tensor) else learnt
        gradients = loss_fn.differentiate(corrected, leaves)
        matching, difficulty = corrected.matching, corrected.difficulty
        term = torch.zeros_like(matching) if corrected.term is None else corrected.term.detach()
        return cls(gradients, corrected.loss.detach(), matching, difficulty, term)

    @property
    def image_gradient(self) -> Tensor:
        """The gradient of ``loss`` over the synthetic images (N, C, H, W)."""
        return self.image_gradients.loss[0]

    @property
    def losses(self) -> Tensor:
        """The loss, the matching loss, the difficulty and the term as one tensor (4,)."""
        return torch.stack([self.loss, self.matching, self.difficulty, self.term])

    def each(self, function: Callable[[Tensor], Tensor]) -> StepResult:
        """Returns the result with a function applied to the gradients and to the losses (4,)."""
        return StepResult(self.image_gradients.each(function), *function(self.losses))

    def settled(self, loss_fn: SDCLoss) -> StepResult:
        """Counts the update; returns the result with the lam that follows from its measure."""
        held = loss_fn.lam
        gradients = ImageGradients(loss_fn.settle(self.image_gradients))
        loss = reweighted(self.loss, self.term, held, loss_fn.lam)
        return replace(self, image_gradients=gradients, loss=loss)

    def log(self, lr_img: float) -> dict[str, float]:
        """Returns the values to log: ``loss``, ``matching`` and ``difficulty``.

        Args:
            lr_img: The learning rate of the images, which the error message names.

        Raises:
            DivergenceError: If a loss or the gradient is not finite.
        """
        values = self.losses[:3].tolist()
        log = dict(zip(("loss", "matching", "difficulty"), values, strict=True))
        finite = bool(self.image_gradient.isfinite().all())
        if not (finite and all(math.isfinite(value) for value in log.values())):
            raise DivergenceError(
                f"the loss is {log['loss']} (matching {log['matching']}, GraDN "
                f"{log['difficulty']}) or its gradient is not finite: lower `lr_img` (now "
                f"{lr_img}), `lam` or `share`, and check that the data are normalised"
            )
        return log

"""Two distillation methods that become part of ``sdc-ext`` when this package is installed.

``gradient-huber`` gives the library's gradient-matching loop a matching loss of its own;
``mean-image`` brings its own loop. Both get the correction, options, evaluation, ``compare`` and
the report without another line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sdc_ext import SDCLoss, gradient_norm
from sdc_ext.adapters import Loop, Method, Task, option
from sdc_ext.adapters.loops import GradientMatching, ImageState, StepResult
from sdc_ext.training import differentiable_gradient


@dataclass(frozen=True)
class HuberMatching(GradientMatching):
    """Gradient matching by a distance that large differences do not dominate."""

    delta: float = option(0.1, "difference of gradients from which on the loss is linear")

    def matching_loss(self) -> Callable[..., Tensor]:
        def distance(gw_syn: Sequence[Tensor], gw_real: Sequence[Tensor]) -> Tensor:
            pairs = zip(gw_syn, gw_real, strict=True)
            losses = [F.huber_loss(s, r, reduction="sum", delta=self.delta) for s, r in pairs]
            return torch.stack(losses).sum()

        return distance


@dataclass(frozen=True)
class MeanImageMatching(Loop):
    """Draws each class's images towards the mean of a batch of its real images."""

    lr_img: float = option(1.0, "learning rate of the images")
    batch_real: int = option(64, "real images per class and update")

    def matching_loss(self) -> Callable[..., Tensor]:
        return F.mse_loss

    def start(self, task: Task) -> ImageState:
        return ImageState.initial(task, "real", self.lr_img)

    def step(
        self, state: ImageState, task: Task, loss_fn: SDCLoss, iteration: int
    ) -> dict[str, float]:
        real = [
            task.real_images(task.draw_indices(label, self.batch_real)).mean(0)
            for label in state.labels.tolist()
        ]
        leaf = state.images.detach().requires_grad_()
        # What the correction penalises: the gradient of the loss on the synthetic images.
        gradient = differentiable_gradient(task.new_network(), leaf, state.labels)
        corrected = loss_fn.corrected([gradient_norm(gradient)], leaf, torch.stack(real))
        result = StepResult.of(corrected, leaf, loss_fn).settled(loss_fn)
        log = result.log(self.lr_img)  # stops the run if anything is not finite
        state.update(result.image_gradient)
        return log


GRADIENT_HUBER = Method("gradient-huber", "none: an example", HuberMatching)
MEAN_IMAGE = Method("mean-image", "none: an example", MeanImageMatching)

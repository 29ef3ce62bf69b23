"""What the loops change: images, labels and step size, with their optimisers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD

from sdc_ext.adapters.task import Task
from sdc_ext.errors import DivergenceError
from sdc_ext.networks.functional import FunctionalNetwork
from sdc_ext.sets.synthetic_set import Distilled, class_labels


class ImageState:
    """Synthetic images (N, C, H, W), labels (N,) sorted by class, and the image optimiser."""

    def __init__(self, images: Tensor, labels: Tensor, optimizer: SGD) -> None:
        self.images = images
        self.labels = labels
        self.optimizer = optimizer

    @classmethod
    def initial(cls, task: Task, init: str, lr_img: float) -> ImageState:
        """Images to begin with, drawn from torch's global generator.

        Args:
            task: how many, of what size and where.
            init: ``"real"`` for real images, ``"noise"`` for Gaussian noise.
            lr_img: learning rate of the images.
        """
        labels = class_labels(task.num_classes, task.ipc)
        if init == "real":
            index = torch.cat([task.draw_indices(c, task.ipc) for c in range(task.num_classes)])
            images = task.real_images(index)
        else:
            images = torch.randn(len(labels), task.data.channels, *task.data.image_size)
        images = images.to(task.accelerator.device).requires_grad_()
        # The originals' momentum, which their command line does not offer.
        optimizer = SGD([images], lr=lr_img, momentum=0.5)
        return cls(images, labels.to(images.device), optimizer)

    def update(self, image_gradient: Tensor) -> None:
        """One step of the optimiser along a gradient (N, C, H, W)."""
        self.images.grad = image_gradient
        self.optimizer.step()

    def candidates(self) -> dict[str, Distilled]:
        return {"images": Distilled(self.images, self.labels)}

    def state_dict(self) -> dict[str, Any]:
        return {"images": self.images.detach(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        with torch.no_grad():
            self.images.copy_(state["images"])
        self.optimizer.load_state_dict(state["optimizer"])


@dataclass(frozen=True)
class TrajectoryRates:
    """The step size that trajectory matching starts from, and the rates of what it learns.

    Attributes:
        syn_lr: The initial step size of the inner loop.
        lr_img: The learning rate of the images.
        lr_lr: The learning rate of the step size.
        lr_y: The learning rate of the labels, if they are learnt.
        momentum_y: The momentum of the labels.
    """

    syn_lr: float
    lr_img: float
    lr_lr: float
    lr_y: float
    momentum_y: float


class TrajectoryState:
    """What is learnt, with its optimisers.

    Args:
        images: (n, C, H, W), which become a leaf.
        labels: (n,) int64 or, where they are learnt, logits (n, classes).
        student: The network that is unrolled.
        rates: The initial step size and the rates of the optimisers.
        learns_labels: Whether the labels are learnt with the images.
        averages: Whether a moving average of the images is kept.

    Attributes:
        images: (n, C, H, W), a leaf.
        syn_lr: scalar, a leaf.
        labels: (n,) int64; the teacher's probabilities (n, classes); or learnt logits, a leaf.
        ema: moving average of the images, or None.
        student: the network that is unrolled.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        student: FunctionalNetwork,
        rates: TrajectoryRates,
        *,
        learns_labels: bool,
        averages: bool,
    ) -> None:
        self.images = images.requires_grad_()
        self.syn_lr = torch.tensor(rates.syn_lr, device=images.device).requires_grad_()
        self.learns_labels = learns_labels
        self.labels = labels.requires_grad_() if learns_labels else labels
        self.ema = images.detach().clone() if averages else None
        self.student = student
        # The originals' momenta, of which their command lines offer the labels' only.
        self.optimizers = {
            "images": SGD([self.images], lr=rates.lr_img, momentum=0.5),
            "syn_lr": SGD([self.syn_lr], lr=rates.lr_lr, momentum=0.5),
        }
        if learns_labels:
            self.optimizers["labels"] = SGD([self.labels], lr=rates.lr_y, momentum=rates.momentum_y)

    @property
    def targets(self) -> Tensor:
        """What the student is trained on: labels (n,), or probabilities (n, classes)."""
        return self.labels.softmax(-1) if self.learns_labels else self.labels

    @property
    def leaves(self) -> list[Tensor]:
        """What is learnt, in the order of the optimisers."""
        learnt = [self.images, self.syn_lr]
        return [*learnt, self.labels] if self.learns_labels else learnt

    def candidates(self) -> dict[str, Distilled]:
        labels, lr = self.targets.detach(), float(self.syn_lr.detach())
        found = {"images": Distilled(self.images, labels, lr)}
        if self.ema is not None:
            found["ema"] = Distilled(self.ema, labels, lr)
        return found

    def state_dict(self) -> dict[str, Any]:
        return {
            "images": self.images.detach(),
            "syn_lr": self.syn_lr.detach(),
            "labels": self.labels.detach(),
            "ema": self.ema,
            "optimizers": {name: o.state_dict() for name, o in self.optimizers.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        with torch.no_grad():
            self.images.copy_(state["images"])
            self.syn_lr.copy_(state["syn_lr"])
            if self.learns_labels:
                self.labels.copy_(state["labels"])
            else:  # a teacher's are of another shape than the first ones
                self.labels = state["labels"]
        self.ema = state["ema"]
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])


def check_images(images: Tensor) -> None:
    """Raises DivergenceError if an update has made an image NaN or infinite."""
    if not bool(images.isfinite().all()):
        raise DivergenceError("the images are not finite after their update: lower --lr-img")

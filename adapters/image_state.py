"""What loops change that optimise images of fixed labels: the images and their optimiser."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD

from sdc_ext.adapters.base import Task
from sdc_ext.synthetic import Distilled, class_labels


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

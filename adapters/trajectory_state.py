"""What trajectory matching learns: images, the step size, and labels where they are learnt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim import SGD

from sdc_ext.functional import FunctionalNetwork
from sdc_ext.synthetic import Distilled

if TYPE_CHECKING:
    from sdc_ext.adapters.trajectory import TrajectoryMatching


class TrajectoryState:
    """What is learnt, with its optimisers.

    Attributes:
        images: (n, C, H, W), a leaf.
        syn_lr: scalar, a leaf.
        labels: (n,) int64; the teacher's probabilities (n, classes); or learnt logits, a leaf.
        ema: moving average of the images, or None.
        student: the network that is unrolled.
    """

    def __init__(
        self, loop: TrajectoryMatching, images: Tensor, labels: Tensor, student: FunctionalNetwork
    ) -> None:
        self.images = images.requires_grad_()
        self.syn_lr = torch.tensor(loop.lr_teacher, device=images.device).requires_grad_()
        self.learns_labels = loop.labels == "learned"
        self.labels = labels.requires_grad_() if self.learns_labels else labels
        self.ema = images.detach().clone() if loop.ema_decay > 0 else None
        self.student = student
        # The originals' momenta, of which their command lines offer the labels' only.
        self.optimizers = {
            "images": SGD([self.images], lr=loop.lr_img, momentum=0.5),
            "syn_lr": SGD([self.syn_lr], lr=loop.lr_lr, momentum=0.5),
        }
        if self.learns_labels:
            self.optimizers["labels"] = SGD([self.labels], lr=loop.lr_y, momentum=loop.momentum_y)

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

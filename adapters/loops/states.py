"""The states of the loops: synthetic images, labels and step size, with their optimisers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.optim import SGD

from sdc_ext.adapters.loops.balance import PoolBalance
from sdc_ext.adapters.loops.representative import RepresentativeBatches, Sampling
from sdc_ext.adapters.loops.starts import initial_images
from sdc_ext.adapters.task import Task
from sdc_ext.errors import DivergenceError
from sdc_ext.networks.functional import FunctionalNetwork
from sdc_ext.sets.decoding import AS_STORED, Decoder
from sdc_ext.sets.synthetic_set import Distilled, class_labels

Init: TypeAlias = Literal["noise", "real", "representative"]


class ImageState:
    """The state of a loop that optimises images with fixed labels.

    Attributes:
        images: Stored images (N, C, H, W), normalised, a leaf.
        labels: Labels (N,) int64, sorted by class.
        optimizer: The optimiser of the images.
        decoder: Decodes the stored images to those that networks see.
        representatives: The representative real images in use, or None.
        balance: The scales of the networks of a pool.
    """

    def __init__(
        self, images: Tensor, labels: Tensor, optimizer: SGD, decoder: Decoder = AS_STORED
    ) -> None:
        self.images = images
        self.labels = labels
        self.optimizer = optimizer
        self.decoder = decoder
        self.representatives: RepresentativeBatches | None = None
        self.balance = PoolBalance()

    @classmethod
    def initial(
        cls, task: Task, init: Init, lr_img: float, decoder: Decoder = AS_STORED
    ) -> ImageState:
        """Returns the initial state, drawn from torch's global generator.

        Args:
            task: The task, which sets the number, the size and the device of the images.
            init: ``"real"`` starts from random real images, ``"representative"`` from those nearest
                to the centres of clusters, and ``"noise"`` from Gaussian noise.
            lr_img: The learning rate of the images.
            decoder: Decodes the stored images to those that networks see.
        """
        labels = class_labels(task.num_classes, task.ipc)
        images = initial_images(task, decoder, init).requires_grad_()
        # The original scripts hard-code this momentum.
        optimizer = SGD([images], lr=lr_img, momentum=0.5)
        return cls(images, labels.to(images.device), optimizer, decoder)

    def real_batches(
        self,
        task: Task,
        network: nn.Module,
        sampling: Sampling,
        batch_real: int,
        *,
        refresh_every: int,
        updates: int = 1,
    ) -> list[Tensor] | None:
        """Returns the positions of the real images to match next, unless they are to be random.

        Args:
            task: The task with the real data.
            network: The new network of this iteration, whose features are clustered if the present
                images have served long enough.
            sampling: ``"random"`` or ``"representative"``.
            batch_real: The number of real images per class.
            refresh_every: The number of updates that the images serve at least.
            updates: The number of updates in this iteration.

        Returns:
            One int64 tensor per class; None if the images are to be drawn at random.
        """
        if sampling == "random":
            return None
        held = self.representatives
        if held is None or held.updates >= refresh_every:
            held = RepresentativeBatches.choose(task, network, batch_real)
        self.representatives = replace(held, updates=held.updates + updates)
        return held.chosen

    def update(self, image_gradient: Tensor, member: int = 0) -> None:
        """Takes one step of the optimiser along an image gradient (N, C, H, W).

        Args:
            image_gradient: The gradient.
            member: The index of the network in the pool.
        """
        self.images.grad = self.balance.scaled(image_gradient, member)
        self.optimizer.step()

    def candidates(self) -> dict[str, Distilled]:
        """Returns the images with their labels as the only candidate, ``"images"``."""
        return {"images": Distilled(self.images, self.labels, factor=self.decoder.factor)}

    def for_training(self) -> tuple[Tensor, Tensor]:
        """Returns the images and labels that networks see, detached."""
        images = self.decoder.decode(self.images.detach())
        return images, self.decoder.repeat(self.labels)

    def state_dict(self) -> dict[str, Any]:
        """Returns the images, their optimiser, the representatives in use and the balance."""
        held = self.representatives
        return {
            "images": self.images.detach(),
            "optimizer": self.optimizer.state_dict(),
            "representatives": None if held is None else dict(vars(held)),
            "balance": self.balance.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what ``state_dict`` returned, the images in place."""
        with torch.no_grad():
            self.images.copy_(state["images"])
        self.optimizer.load_state_dict(state["optimizer"])
        held = state.get("representatives")  # which checkpoints of earlier versions do not have
        self.representatives = None if held is None else RepresentativeBatches(**held)
        if "balance" in state:
            self.balance.load_state_dict(state["balance"])


@dataclass(frozen=True)
class TrajectoryRates:
    """The initial step size of trajectory matching, and the learning rates of its optimisers.

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
    """The state of trajectory matching: all that is learnt, with its optimisers.

    Args:
        images: Stored images (n, C, H, W), normalised; they become a leaf.
        labels: Labels (n,) int64 or, if they are learnt, logits (n, classes).
        students: The networks that are unrolled, one per network of the pool.
        rates: The initial step size and the learning rates of the optimisers.
        learns_labels: Whether the labels are learnt along with the images.
        averages: Whether to keep a moving average of the images.
        decoder: Decodes the stored images to those that networks see.

    Attributes:
        images: Stored images (n, C, H, W), a leaf.
        syn_lr: The step size of the inner loop, a scalar leaf.
        labels: Labels (n,) int64, probabilities from an expert (n, classes), or learnt logits
            (n, classes), which are a leaf.
        ema: The moving average of the images (n, C, H, W), or None.
        students: The networks that are unrolled, one per network of the pool.
        decoder: Decodes the stored images to those that networks see.
        balance: The scales of the networks of a pool.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        students: Sequence[FunctionalNetwork],
        rates: TrajectoryRates,
        *,
        learns_labels: bool,
        averages: bool,
        decoder: Decoder = AS_STORED,
    ) -> None:
        self.images = images.requires_grad_()
        self.syn_lr = torch.tensor(rates.syn_lr, device=images.device).requires_grad_()
        self.learns_labels = learns_labels
        self.labels = labels.requires_grad_() if learns_labels else labels
        self.ema = images.detach().clone() if averages else None
        self.students = students
        self.balance = PoolBalance()
        self.decoder = decoder
        # The original scripts hard-code these momenta; only that of the labels is an option there.
        self.optimizers = {
            "images": SGD([self.images], lr=rates.lr_img, momentum=0.5),
            "syn_lr": SGD([self.syn_lr], lr=rates.lr_lr, momentum=0.5),
        }
        if learns_labels:
            self.optimizers["labels"] = SGD([self.labels], lr=rates.lr_y, momentum=rates.momentum_y)

    @property
    def targets(self) -> Tensor:
        """The labels that the student is trained on: (n,) int64, or probabilities (n, classes)."""
        return self.labels.softmax(-1) if self.learns_labels else self.labels

    @property
    def leaves(self) -> list[Tensor]:
        """The tensors being learnt, in the order of the optimisers."""
        learnt = [self.images, self.syn_lr]
        return [*learnt, self.labels] if self.learns_labels else learnt

    def candidates(self) -> dict[str, Distilled]:
        """Returns the set under ``"images"`` and, if one is kept, its average under ``"ema"``."""
        labels, lr = self.targets.detach(), float(self.syn_lr.detach())
        factor = self.decoder.factor
        found = {"images": Distilled(self.images, labels, lr, factor)}
        if self.ema is not None:
            found["ema"] = Distilled(self.ema, labels, lr, factor)
        return found

    def state_dict(self) -> dict[str, Any]:
        """Returns the images, step size, labels, average, balance and optimisers' states."""
        return {
            "images": self.images.detach(),
            "syn_lr": self.syn_lr.detach(),
            "labels": self.labels.detach(),
            "ema": self.ema,
            "balance": self.balance.state_dict(),
            "optimizers": {name: o.state_dict() for name, o in self.optimizers.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what ``state_dict`` returned; leaves keep their identity."""
        with torch.no_grad():
            self.images.copy_(state["images"])
            self.syn_lr.copy_(state["syn_lr"])
            if self.learns_labels:
                self.labels.copy_(state["labels"])
            else:  # an expert's probabilities have another shape than the initial labels
                self.labels = state["labels"]
        self.ema = state["ema"]
        if "balance" in state:  # which checkpoints of earlier versions do not have
            self.balance.load_state_dict(state["balance"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])


def check_images(images: Tensor) -> None:
    """Raises DivergenceError if an update has made some pixel NaN or infinite."""
    if not bool(images.isfinite().all()):
        raise DivergenceError("the update made the images NaN or infinite: lower `lr_img`")

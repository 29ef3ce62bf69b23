"""The interface that the engine drives, and what a method is given to work with.

A run is this loop, and an adapter is what stands in it::

    state = loop.start(task)                     # synthetic images, their optimiser
    for iteration in range(iterations):
        seed_torch(seed, "iteration", iteration)
        loss_fn.iteration = iteration            # for schedules of lam
        log = loop.step(state, task, loss_fn, iteration)
        every eval_every: evaluate(state.candidates()); save a checkpoint

A loop is a frozen dataclass of hyper-parameters; everything that changes is in its state.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from sdc_ext.data import RealData
from sdc_ext.errors import DivergenceError, InputError
from sdc_ext.expert_store import Experts
from sdc_ext.experts import ExpertRecipe
from sdc_ext.networks import create_network
from sdc_ext.options import setting
from sdc_ext.regularizer import LogRamp, Norm, SDCLoss
from sdc_ext.synthetic import Distilled
from sdc_ext.training import BatchLoss
from sdc_ext.unroll import Share


@dataclass(frozen=True)
class Task:
    """What is distilled, into how many images, with which network and experts, and where.

    Raises:
        InputError: if a class has fewer than ``ipc`` images.
    """

    data: RealData
    ipc: int
    network: str
    accelerator: Accelerator
    compile: bool = False
    experts: Experts | None = None

    def __post_init__(self) -> None:
        if self.ipc < 1:
            raise InputError(f"ipc must be at least 1, got {self.ipc}")
        for name, index in zip(self.data.classes, self.class_indices, strict=True):
            if len(index) < self.ipc:
                raise InputError(
                    f"ipc {self.ipc} is more than the {len(index)} training images of class "
                    f"{name!r}: use at most {len(index)}"
                )

    @cached_property
    def batch_loss(self) -> BatchLoss:
        """How to compute losses whose gradient is not differentiated again."""
        return BatchLoss(bf16=self.accelerator.mixed_precision == "bf16", compile=self.compile)

    @cached_property
    def class_indices(self) -> list[Tensor]:
        return self.data.indices_by_class()

    @cached_property
    def _images(self) -> Tensor:
        return self.data.train.images.to(self.accelerator.device)

    @property
    def num_classes(self) -> int:
        return len(self.data.classes)

    def reduce(self, tensor: Tensor) -> Tensor:
        """Sums a tensor over processes."""
        reduced: Tensor = self.accelerator.reduce(tensor, "sum")
        return reduced

    @property
    def share(self) -> Share:
        """This process's part of inner loops."""
        return Share(self.accelerator.process_index, self.accelerator.num_processes, self.reduce)

    def new_network(self) -> nn.Module:
        """A fresh random network in training mode, on the device."""
        network = create_network(
            self.network, self.data.channels, self.num_classes, self.data.image_size
        )
        return network.to(self.accelerator.device).train()

    def draw_indices(self, label: int, n: int) -> Tensor:
        """``n`` different training images of a class (all of them if it has fewer)."""
        index = self.class_indices[label]
        return index[torch.randperm(len(index))[:n]]

    def real_images(self, index: Tensor) -> Tensor:
        """Normalised images (len(index), C, H, W) on the device."""
        return self.data.normalize(self._images[index.to(self._images.device)])


class State(Protocol):
    """What a loop changes: the engine evaluates, saves and restores it."""

    images: Tensor

    def candidates(self) -> dict[str, Distilled]:
        """What may be evaluated and kept, by name; the first is what is being optimised."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Loop(Protocol):
    """A loop that serves several methods.

    Attributes:
        align_corners: of its augmentation's scale and rotate.
        epochs_needed: how long experts must have been trained; 0 if it matches none.
        unused: settings that other settings make meaningless.
    """

    @property
    def align_corners(self) -> bool: ...

    @property
    def epochs_needed(self) -> int: ...

    @property
    def unused(self) -> set[str]: ...

    @classmethod
    def derived(cls, origin: Mapping[str, Setting], chosen: Container[str]) -> dict[str, Setting]:
        """Settings that follow from others; those that the user has chosen are left alone."""
        ...

    def matching_loss(self) -> Callable[..., Tensor]:
        """The loss that the correction wraps."""
        ...

    def start(self, task: Task) -> Any:
        """The initial state; draws from torch's global generator."""
        ...

    def step(self, state: Any, task: Task, loss_fn: SDCLoss, iteration: int) -> dict[str, float]:
        """One outer iteration, in place.

        Returns:
            What to log: at least ``loss``, ``matching`` and ``difficulty`` (GraDN).

        Raises:
            DivergenceError: before it would change the images, if the loss is not finite.
        """
        ...


@dataclass(frozen=True)
class Setting:
    """A value and its source."""

    value: Any
    source: str


_ORIGINALS = "the originals"
_OURS = "sdc-ext default"


@dataclass(frozen=True)
class RunSettings:
    """What a run needs beside its loop's hyper-parameters."""

    iterations: int = setting(1000, "outer iterations", _ORIGINALS)
    lam: float = setting(0.002, "weight of the correction; 0 is without", "SDC paper, Section 4.3")
    lam_ramp: tuple[float, float, int] | None = setting(
        None, "adaptive correction instead of lam: start, end, iterations between", _OURS
    )
    norm: Norm = setting("l2", "the norm that is penalised", "SDC paper, Eq. 11 and 12")
    network: str = setting("convnet", "network to distil with, e.g. convnet:depth=4", _ORIGINALS)
    eval_network: str = setting("convnet", "network to evaluate with", _OURS)
    eval_every: int = setting(500, "iterations between evaluations", _ORIGINALS)
    num_eval: int = setting(20, "networks an evaluation", _ORIGINALS)
    epoch_eval_train: int = setting(300, "epochs an evaluation network", _ORIGINALS)
    lr_eval: float = setting(0.01, "learning rate of evaluation networks", _ORIGINALS)
    batch_eval: int = setting(256, "batch size of evaluation networks", _ORIGINALS)
    eval_augmentation: str = setting("none", "augmentation of evaluation networks", _ORIGINALS)
    zca: bool = setting(False, "ZCA-whiten the images", _ORIGINALS)
    on_divergence: Literal["stop", "skip"] = setting(
        "stop", "at a loss that is not finite: stop, or skip the update", _OURS
    )
    statistics: str = setting("own", "data set whose channel statistics normalise", _OURS)

    @property
    def schedule(self) -> float | LogRamp:
        """lam, or the ramp that takes its place."""
        return self.lam if self.lam_ramp is None else LogRamp(*self.lam_ramp)


@dataclass(frozen=True)
class Method:
    """A distillation method: a loop and the choices that make it this method.

    Attributes:
        name: what the command line calls it.
        reference: the paper.
        loop: the loop's class, a dataclass.
        choices: values of its fields, and of :class:`RunSettings`, that differ from their
            defaults.
        source: where the choices come from, e.g. a script of the original repository.
        rules: further values for a data set and ipc, each with its source.
        counts: which evaluation counts: ``"last"`` or ``"best"``.
        experts: how its expert trajectories are trained for a data set and ipc, if it matches
            any.
    """

    name: str
    reference: str
    loop: type[Any]
    choices: Mapping[str, Any]
    source: str
    rules: Callable[[str, int], Mapping[str, tuple[Any, str]]]
    counts: str
    experts: Callable[[str, int], ExpertRecipe] | None = None


def evaluation_as_distillation(
    origin: Mapping[str, Setting], chosen: Container[str]
) -> dict[str, Setting]:
    """Evaluation settings that follow from the distillation's, as they do in the originals."""
    derived = {}
    augmentation, network = origin["dsa_strategy"].value, origin["network"].value
    if augmentation != "none" and "eval_augmentation" not in chosen:
        derived["eval_augmentation"] = Setting(augmentation, "as in distillation")
    derived["eval_network"] = Setting(network, "as in distillation")
    if ":norm=batch" in network:
        # A synthetic set is too small for batch norm's statistics.
        without = network.replace(":norm=batch", "")
        derived["eval_network"] = Setting(without, "originals, batch norm replaced")
    return derived


def check_images(images: Tensor) -> None:
    """Raises DivergenceError if an update has made an image NaN or infinite."""
    if not bool(images.isfinite().all()):
        raise DivergenceError("the images are not finite after their update: lower --lr-img")

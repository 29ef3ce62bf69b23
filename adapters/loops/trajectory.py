"""The trajectory-matching loop, which serves MTT, FTD, TESLA and DATM."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from accelerate.utils import broadcast
from torch import Tensor

from sdc_ext._memory import advising_on_memory
from sdc_ext._options import COMPUTING, CORRECTION, IMAGES, MATCHING, OURS, option
from sdc_ext._values import Count, CountOrZero, Decay, Factor, Part, Rate, Weight, check_fields
from sdc_ext.adapters.base import Loop
from sdc_ext.adapters.loops.differentiation import (
    AdjointName,
    budget_note,
    make_adjoint,
    memory_advice,
)
from sdc_ext.adapters.loops.expert_labels import expert_logits, mean_correct_logits
from sdc_ext.adapters.loops.matched import cost_option, is_due, student_difficulty
from sdc_ext.adapters.loops.segments import Segment, last_parameters, needed_experts
from sdc_ext.adapters.loops.starts import (
    correctly_classified,
    factor_option,
    initial_images,
)
from sdc_ext.adapters.loops.states import TrajectoryRates, TrajectoryState, check_images
from sdc_ext.adapters.loops.steps import StepResult, strategy_option
from sdc_ext.adapters.run_settings import Setting, evaluation_as_distillation
from sdc_ext.adapters.task import Task
from sdc_ext.augment.parse import parse_augmentation
from sdc_ext.errors import DivergenceError, InputError
from sdc_ext.matching.adjoints import Adjoint, Share
from sdc_ext.matching.distances import parameter_distance
from sdc_ext.matching.inner_loop import unroll
from sdc_ext.matching.minibatches import Minibatch, draw_minibatches, whole_set
from sdc_ext.networks.functional import FunctionalNetwork
from sdc_ext.sdc_loss import Corrected, SDCLoss
from sdc_ext.sets.synthetic_set import class_labels
from sdc_ext.training.protocols import DSA

PixInit = Literal["noise", "real", "samples_predicted_correctly", "representative"]

Labels = Literal["hard", "teacher", "learned"]

DifficultyAt = Literal["steps", "final"]


@dataclass(frozen=True)
class Inner:
    """The inputs of the inner loop: the student, its training set and its step size.

    Attributes:
        student: The network to train.
        images: The synthetic images (n, C, H, W), normalised.
        labels: Their labels (n,) int64, or probabilities (n, classes).
        lr: The step size, a scalar tensor.
    """

    student: FunctionalNetwork
    images: Tensor
    labels: Tensor
    lr: Tensor


def match_trajectory(
    inner: Inner,
    start: Tensor,
    target: Tensor,
    batches: Sequence[Minibatch],
    loss_fn: SDCLoss,
    *,
    adjoint: Adjoint,
    difficulty_at: DifficultyAt = "steps",
) -> Corrected:
    """Trains a student from ``start`` and measures how far from ``target`` it ends.

    ``||theta_N - target||^2 / ||start - target||^2 + lam * mean_n ||g_n||_2`` (SDC Eq. 12)

    Args:
        inner: The student, images, labels and step size. The loss is differentiable with respect
            to the last three.
        start: The expert's parameters (P,) at the start epoch, where the student begins.
        target: The expert's parameters (P,) at the target epoch.
        batches: One minibatch per inner step.
        loss_fn: [`parameter_distance`][sdc_ext.matching.parameter_distance] with the correction.
        adjoint: The way to differentiate the inner loop; see ``matching.adjoints``.
        difficulty_at: ``"steps"`` penalises the gradients of the inner steps; ``"final"``
            penalises the gradient of the whole set, without augmentation, at the final
            parameters.
    """

    def train(params: Tensor, minibatches: Sequence[Minibatch]) -> tuple[Tensor, Tensor]:
        learnt = (inner.images, inner.labels, inner.lr)
        return unroll(inner.student, params, *learnt, minibatches, adjoint=adjoint)

    final, norms = train(start, batches)
    if difficulty_at == "final":
        _, norms = train(final, [whole_set(len(inner.images))])
    return loss_fn.corrected(norms, final, target, start)


@dataclass(frozen=True)
class TrajectoryMatching(Loop):
    """The trajectory-matching loop, with the names and defaults of the original scripts.

    An outer iteration draws an expert and a start epoch; with a pool of networks, first a network,
    whose architecture the student then has. It trains a student from there on the
    synthetic images, and updates the images so that the student ends closer to where the expert
    was ``expert_epochs`` later.

    Raises:
        InputError: If a choice is unknown, or a count or rate is out of range.

    Reference: MTT, Algorithm 1, and the scripts of MTT, FTD, TESLA and DATM.
    """

    syn_steps: Count = option(20, "number of inner steps of the student (N)", group=MATCHING)
    expert_epochs: Count = option(
        3, "number of expert epochs that they match, from start to target (M)", group=MATCHING
    )
    min_start_epoch: CountOrZero = option(0, "earliest start epoch of the expert", group=MATCHING)
    max_start_epoch: Count = option(
        25, "start epochs of the expert are below this one (T+)", group=MATCHING
    )
    current_max_start_epoch: CountOrZero = option(
        0, "DATM: max-start-epoch at iteration 0, from which it grows", OURS, MATCHING
    )
    expansion_end_epoch: CountOrZero = option(
        0, "DATM: number of iterations over which it grows; 0 for no growth", OURS, MATCHING
    )
    batch_syn: CountOrZero = option(
        0, "number of synthetic images per inner step; 0 for all", group=MATCHING
    )
    pix_init: PixInit = option("real", "initial images", group=IMAGES)
    factor: Factor = factor_option()
    labels: Labels = option(
        "hard",
        "labels: hard, predicted by the target expert (TESLA), or learned (DATM)",
        group=IMAGES,
    )
    dsa_strategy: str = strategy_option(DSA)
    adjoint: AdjointName = option(
        "recompute", "how the inner loop is differentiated", OURS, COMPUTING
    )
    difficulty_at: DifficultyAt = option(
        "steps",
        "GraDN: the mean over the inner steps, or that of the whole set at the final parameters",
        "SDC paper, Eq. 12",
        CORRECTION,
    )
    chunk_size: CountOrZero = option(
        0, "number of images at once; 0 for what suits the device", OURS, COMPUTING
    )
    memory_budget: Weight = option(
        0.0, "GB of memory to keep inner steps in, instead of recomputing them", OURS, COMPUTING
    )
    threshold: Weight = option(
        0.0, "DATM: a larger loss changes no images; 0 for no threshold", OURS, IMAGES
    )
    ema_decay: Decay = option(
        0.0, "FTD: decay of the images' moving average; 0 for none", OURS, IMAGES
    )
    lr_img: Rate = option(1000.0, "learning rate of the images", group=IMAGES)
    lr_lr: Rate = option(1e-5, "learning rate of the student's learning rate", group=IMAGES)
    lr_teacher: Rate = option(0.01, "initial learning rate of the student", group=IMAGES)
    lr_y: Rate = option(2.0, "learning rate of learned labels", group=IMAGES)
    momentum_y: Decay = option(0.9, "momentum of learned labels", group=IMAGES)
    measure_cost: Part = cost_option()

    def __post_init__(self) -> None:
        check_fields(self)
        parse_augmentation(self.dsa_strategy)
        first = self.upper_bound(0)
        if first <= self.min_start_epoch:
            raise InputError(
                f"start epochs are drawn from [{self.min_start_epoch}, {first}), which is empty: "
                "lower `min_start_epoch`, or raise `max_start_epoch` (or "
                "`current_max_start_epoch`)"
            )

    @classmethod
    def derived(cls, origin: Mapping[str, Setting], chosen: Container[str]) -> dict[str, Setting]:
        """Derives evaluation settings, with the initial step size as the learning rate."""
        derived = evaluation_as_distillation(origin, chosen)
        derived["lr_eval"] = Setting(origin["lr_teacher"].value, "the step size, as it is learnt")
        return derived

    @property
    def align_corners(self) -> bool:
        """True, as in the augmentation of MTT's script."""
        return True

    @property
    def unused(self) -> dict[str, str]:
        """The settings of labels, start epochs and adjoints that are not in use."""
        unused: dict[str, str] = {}
        if self.labels != "learned":
            unused |= dict.fromkeys(("lr_y", "momentum_y"), f"`labels` is {self.labels}")
        if self.adjoint == "direct":
            unused |= dict.fromkeys(("memory_budget", "chunk_size"), "`adjoint` is direct")
        if not self.expansion_end_epoch:
            unused["current_max_start_epoch"] = "`expansion_end_epoch` is 0"
        return unused

    @property
    def compiles(self) -> bool:
        """False for the graph of all steps: no compiled gradient can be differentiated again."""
        return self.adjoint != "direct"

    @property
    def epochs_needed(self) -> int:
        """The latest target epoch that can be drawn."""
        return self.max_start_epoch - 1 + self.expert_epochs

    def upper_bound(self, iteration: int) -> int:
        """Returns the exclusive upper bound of the start epochs at an outer iteration.

        It grows linearly from ``current_max_start_epoch`` to ``max_start_epoch`` over the first
        ``expansion_end_epoch`` iterations, and is constant if that number is 0.

        Reference: DATM's code (Section 3.3 of the paper, growing difficulty).
        """
        last = self.max_start_epoch
        if self.expansion_end_epoch == 0:
            return last
        first = min(self.current_max_start_epoch, last)
        return min(first + int((last - first) * iteration / self.expansion_end_epoch), last)

    def images_per_iteration(self, classes: int, ipc: int) -> int:
        """See [`Loop`][sdc_ext.adapters.Loop]; experts are not counted."""
        decoded = classes * ipc * self.decoder.parts
        return self.syn_steps * min(self.batch_syn or decoded, decoded)

    def matching_loss(self) -> Callable[..., Tensor]:
        """Returns the normalised squared distance between parameters."""
        return parameter_distance

    def start(self, task: Task) -> TrajectoryState:
        """Returns the state with initial images, labels and step size.

        Raises:
            InputError: If there are no experts, or they were not trained for long enough.
        """
        experts = needed_experts(task)
        if experts.epochs < self.epochs_needed:
            raise InputError(
                f"the experts have {experts.epochs} epochs, but `max_start_epoch` "
                f"{self.max_start_epoch} and `expert_epochs` {self.expert_epochs} need "
                f"{self.epochs_needed}: train them for longer, or lower one of these settings"
            )
        students = [
            FunctionalNetwork(task.new_network(k), compile=task.compile)
            for k in range(len(task.pool))
        ]
        images = self._initial_images(students, task)
        labels = class_labels(task.num_classes, task.ipc).to(images.device)
        if self.labels == "learned":
            decoder = self.decoder
            seen, classes = decoder.decode(images), decoder.repeat(labels)
            ends = last_parameters(task, students)
            logits = torch.stack([expert_logits(student, end, seen) for student, end in ends])
            labels = decoder.mean(mean_correct_logits(logits, classes))
        return self._new_state(images, labels, students)

    def note(self, state: TrajectoryState, task: Task) -> str | None:
        """Returns for how many inner steps the memory budget suffices, if there is one."""
        return budget_note(self._adjoint(task.share), state, self.batch_syn, self.syn_steps)

    def _new_state(
        self, images: Tensor, labels: Tensor, students: Sequence[FunctionalNetwork]
    ) -> TrajectoryState:
        rates = TrajectoryRates(
            syn_lr=self.lr_teacher,
            lr_img=self.lr_img,
            lr_lr=self.lr_lr,
            lr_y=self.lr_y,
            momentum_y=self.momentum_y,
        )
        return TrajectoryState(
            images,
            labels,
            students,
            rates,
            learns_labels=self.labels == "learned",
            averages=self.ema_decay > 0,
            decoder=self.decoder,
        )

    def _initial_images(self, students: Sequence[FunctionalNetwork], task: Task) -> Tensor:
        correct = self.pix_init == "samples_predicted_correctly"
        choose = partial(correctly_classified, students, task) if correct else None
        return initial_images(task, self.decoder, self.pix_init, choose)

    def step(
        self, state: TrajectoryState, task: Task, loss_fn: SDCLoss, iteration: int
    ) -> dict[str, float]:
        """Matches a random segment of an expert's trajectory, and updates all that is learnt.

        The log also has the step size ``syn_lr``, the ``start_epoch`` of the segment, and whether
        the update was ``skipped`` because the loss was above ``threshold``; and now and then the
        difficulty of the images for the student at its start, see ``student_difficulty``.
        """
        epochs = range(self.min_start_epoch, self.upper_bound(iteration))
        segment = Segment.draw(task, task.draw_member(iteration), epochs, self.expert_epochs)
        student = state.students[segment.member]
        images = state.decoder.decode(state.images)
        if self.labels == "teacher":
            predicted = expert_logits(student, segment.target, images).softmax(-1)
            state.labels = state.decoder.mean(predicted)
        batches = draw_minibatches(
            len(images),
            self.batch_syn,
            self.syn_steps,
            task.augmentation(self.dsa_strategy, align_corners=self.align_corners),
            task.data.image_size,
        )
        with advising_on_memory(memory_advice(self.adjoint, self.memory_budget, self.chunk_size)):
            corrected = match_trajectory(
                Inner(student, images, state.decoder.repeat(state.targets), state.syn_lr),
                segment.start,
                segment.target,
                batches,
                loss_fn,
                adjoint=self._adjoint(task.share),
                difficulty_at=self.difficulty_at,
            )
            result = StepResult.of(corrected, state.leaves, loss_fn)
        due = is_due(self, task, iteration)
        scored = student_difficulty(state, segment, task, iteration) if due else {}
        # On GPUs, rounding may differ between processes and let them drift apart.
        result = result.each(broadcast).settled(loss_fn)
        gradients = result.image_gradients.loss
        self._check_finite(result.loss, gradients, state)
        # Also where the update is skipped, since the first network's norm is the scale of all.
        scaled = state.balance.scaled(result.image_gradient, segment.member)
        skipped = 0 < self.threshold < float(result.matching)
        if not skipped:
            self._update(state, [scaled, *gradients[1:]])
        return {
            "loss": float(result.loss),
            "matching": float(result.matching),
            "difficulty": float(result.difficulty),
            "syn_lr": float(state.syn_lr.detach()),
            "start_epoch": segment.epoch,
            "skipped": int(skipped),
            **scored,
        }

    def _adjoint(self, share: Share) -> Adjoint:
        """Returns the adjoint that the settings name."""
        return make_adjoint(self.adjoint, self.chunk_size, share, self.memory_budget)

    def _update(self, state: TrajectoryState, gradients: Sequence[Tensor]) -> None:
        before = float(state.syn_lr.detach())
        for leaf, gradient in zip(state.leaves, gradients, strict=True):
            leaf.grad = gradient
        for optimizer in state.optimizers.values():
            optimizer.step()
        after = float(state.syn_lr.detach())
        if not 0 < after < math.inf:
            raise DivergenceError(
                f"syn_lr went from {before:g} to {after:g}, outside of (0, inf): lower `lr_lr` "
                f"(now {self.lr_lr:g})"
            )
        check_images(state.images)
        if state.ema is not None:
            state.ema.lerp_(state.images.detach(), 1 - self.ema_decay)

    def _check_finite(
        self, loss: Tensor, gradients: Sequence[Tensor], state: TrajectoryState
    ) -> None:
        if not all(bool(t.isfinite().all()) for t in (loss, *gradients)):
            raise DivergenceError(
                f"the student diverged: the loss is {float(loss)}, or its gradient is "
                f"not finite; lower `lr_img` (now {self.lr_img:g}), `lr_lr` or `lr_teacher` "
                f"(syn_lr is now {float(state.syn_lr.detach()):g}), or check `zca`, because "
                "whitened images need other rates"
            )

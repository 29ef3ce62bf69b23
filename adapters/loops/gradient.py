"""The gradient-matching loop, which serves DC, DSA, DCC and DSAC."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import torch
from accelerate.utils import broadcast
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import SGD

from sdc_ext._options import CORRECTION, IMAGES, MATCHING, option
from sdc_ext._values import Count, CountOrZero, Factor, Part, Rate, Share, check_fields
from sdc_ext.adapters.base import Loop
from sdc_ext.adapters.loops.easy_samples import EasySamples
from sdc_ext.adapters.loops.matched import batch_difficulty, cost_option, is_due
from sdc_ext.adapters.loops.representative import Sampling, refresh_option, sampling_option
from sdc_ext.adapters.loops.starts import factor_option
from sdc_ext.adapters.loops.states import ImageState, Init, check_images
from sdc_ext.adapters.loops.steps import (
    ClassBatch,
    StepResult,
    draw_batches,
    own_batches,
    strategy_option,
)
from sdc_ext.adapters.run_settings import RunSettings, Setting, evaluation_as_distillation
from sdc_ext.adapters.task import Task
from sdc_ext.augment.base import Augmentation
from sdc_ext.augment.parse import parse_augmentation
from sdc_ext.matching.distances import gradient_distance
from sdc_ext.regularizer import gradient_norm
from sdc_ext.sdc_loss import ImageGradients, SDCLoss
from sdc_ext.strength import STRENGTHS
from sdc_ext.training.epochs import train_epoch
from sdc_ext.training.gradients import BatchLoss, differentiable_gradient, mean_gradient

# Real images per class from which batch norm takes its statistics before they are frozen.
_BATCH_NORM_IMAGES = 16


def match_by_class(
    network: nn.Module,
    images: Tensor,
    batches: Sequence[ClassBatch],
    loss_fn: SDCLoss,
    *,
    batch_loss: BatchLoss,
    easy: EasySamples | None = None,
) -> StepResult:
    """Matches the gradient of each class, and sums the losses (DC Eq. 8, SDC Eq. 11).

    ``sum_c D(g_syn^c, g_real^c) + lam ||g_syn^c||_2``

    The loss of a class is differentiated before the next class begins, so that memory holds one
    graph at a time.

    Args:
        network: The network with parameters theta; batch norm, if any, is frozen.
        images: The stored images (N, C, H, W), which are not changed.
        batches: The classes to match; the rows of all other classes get a zero gradient.
        loss_fn: Maps (synthetic, real) gradients to a scalar.
        batch_loss: Computes the losses of the real images.
        easy: Chooses the real images to match; by default all of them are matched.

    Returns:
        The gradients, and the losses and the difficulty summed over the classes.
    """
    parts = 2 if loss_fn.measures else 1
    whole = [torch.zeros_like(images) for _ in range(parts)]
    losses = torch.zeros(4, device=images.device, dtype=images.dtype)
    for batch in batches:
        gw_real = _real_gradient(network, batch, batch_loss, easy)
        leaf = images[batch.rows].detach().requires_grad_()
        seen = batch.seen(leaf)
        labels = torch.full((len(seen),), batch.label, device=images.device)
        gw_syn = differentiable_gradient(network, seen, labels)
        corrected = loss_fn.corrected([gradient_norm(gw_syn)], gw_syn, gw_real)
        part = StepResult.of(corrected, leaf, loss_fn)
        losses += part.losses
        for total, (gradient,) in zip(whole, part.image_gradients, strict=True):
            total[batch.rows] = gradient
    return StepResult(ImageGradients(*([total] for total in whole)), *losses)


def real_gradient(
    network: nn.Module,
    batches: Sequence[ClassBatch],
    classes: int,
    *,
    batch_loss: BatchLoss,
    easy: EasySamples | None = None,
) -> list[Tensor]:
    """Returns the contribution of some classes to the mean real gradient over all classes.

    ``1 / classes * sum_c g_real^c``

    Args:
        network: The network with parameters theta; batch norm, if any, is frozen.
        batches: The classes to sum over, from none to all of them.
        classes: The total number of classes.
        batch_loss: Computes the losses of the real images.
        easy: Chooses the real images to use; by default all of them are used.

    Returns:
        One tensor per parameter that requires a gradient; zeros if there are no batches.
    """
    total = [torch.zeros_like(p) for p in network.parameters() if p.requires_grad]
    for batch in batches:
        gradient = _real_gradient(network, batch, batch_loss, easy)
        torch._foreach_add_(total, gradient, alpha=1 / classes)
    return total


def match_all_classes(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    batches: Sequence[ClassBatch],
    gw_real: Sequence[Tensor],
    loss_fn: SDCLoss,
) -> StepResult:
    """Matches the mean gradient of all classes at once (DCC; SDC paper, Eq. 3).

    Args:
        network: The network with parameters theta; batch norm, if any, is frozen.
        images: The stored images (N, C, H, W), which are not changed.
        labels: The labels (n,) int64 of the images that they decode to.
        batches: The batches of all classes, which hold the augmentation of the synthetic images.
        gw_real: The mean real gradient over all classes, one tensor per parameter; see
            ``real_gradient``.
        loss_fn: Maps (synthetic, real) gradients to a scalar.
    """
    leaf = images.detach().requires_grad_()
    seen = torch.cat([batch.seen(leaf[batch.rows]) for batch in batches])
    gw_syn = differentiable_gradient(network, seen, labels)
    corrected = loss_fn.corrected([gradient_norm(gw_syn)], gw_syn, gw_real)
    return StepResult.of(corrected, leaf, loss_fn)


@dataclass(frozen=True)
class GradientMatching(Loop):
    """The gradient-matching loop, with the names and defaults of the original scripts.

    An outer iteration draws a network. It then updates the images ``outer_loop`` times to match
    gradients, and trains the network on them for ``inner_loop`` epochs between two updates.

    Raises:
        InputError: If the distance, the initialisation or the augmentation is unknown, or a count
            or rate is not above 0.

    Reference: DC, Algorithm 1, and the scripts of DC, DSA and DCC.
    """

    outer_loop: Count = option(1, "number of image updates per network", group=MATCHING)
    inner_loop: Count = option(
        1, "number of epochs the network is trained between updates", group=MATCHING
    )
    init: Init = option("noise", "initial images", group=IMAGES)
    factor: Factor = factor_option()
    dsa_strategy: str = strategy_option("none")
    contrast: bool = option(False, "DCC: match the gradient of all classes at once", group=MATCHING)
    outer_warmup: CountOrZero = option(
        250, "DCC: number of iterations that match class by class at first", group=MATCHING
    )
    inner_warmup: CountOrZero = option(
        10, "DCC: number of image updates per network during these", group=MATCHING
    )
    dis_metric: str = option("ours", "distance of gradients: ours, mse or cos", group=MATCHING)
    lr_img: Rate = option(0.1, "learning rate of the images", group=IMAGES)
    lr_net: Rate = option(0.01, "learning rate of the networks", group=MATCHING)
    batch_real: Count = option(256, "number of real images per class and update", group=MATCHING)
    sampling: Sampling = sampling_option()
    refresh_every: Count = refresh_option()
    tau: Rate | None = option(
        None, "match only real images whose gradient norm is at most this", group=CORRECTION
    )
    tau_quantile: Share | None = option(
        None,
        "match only real images whose gradient norm is in this lower part of their class's batch",
        group=CORRECTION,
    )
    batch_train: Count = option(256, "batch size of the networks' training", group=MATCHING)
    measure_cost: Part = cost_option()

    def __post_init__(self) -> None:
        check_fields(self)
        gradient_distance(self.dis_metric)
        parse_augmentation(self.dsa_strategy)

    @classmethod
    def derived(cls, origin: Mapping[str, Setting], chosen: Container[str]) -> dict[str, Setting]:
        """Derives evaluation settings, lam 0 beside a threshold, and the length of the warm-up."""
        derived = evaluation_as_distillation(origin, chosen)
        augmentation = derived.get("eval_augmentation", origin["eval_augmentation"])
        if augmentation.value != "none":
            derived["epoch_eval_train"] = Setting(1000, "original scripts, with augmentation")
        derived["lr_eval"] = Setting(origin["lr_net"].value, "as in distillation")
        chooses = any(origin[name].value is not None for name in ("tau", "tau_quantile"))
        if chooses and not any(name in chosen for name in STRENGTHS):
            derived["lam"] = Setting(0.0, "0 where tau is set")
        iterations = origin["iterations"].value
        if origin["contrast"].value and iterations != RunSettings.iterations:
            warmup = Setting(iterations // 4, "sdc-ext: a quarter, as 250 of 1000")
            derived["outer_warmup"] = warmup
        return derived

    @property
    def unused(self) -> dict[str, str]:
        """Thresholds that are not set, and settings of parts that the loop does not have."""
        thresholds = ("tau", "tau_quantile")
        unused = {name: "it is None" for name in thresholds if getattr(self, name) is None}
        if self.sampling == "random":
            unused["refresh_every"] = "`sampling` is random"
        if self.outer_loop == 1:  # the network is trained between updates only
            unused |= dict.fromkeys(("inner_loop", "batch_train"), "`outer_loop` is 1")
        if not self.contrast:
            unused |= dict.fromkeys(("outer_warmup", "inner_warmup"), "`contrast` is False")
        elif not self.outer_warmup:
            unused["inner_warmup"] = "`outer_warmup` is 0"
        return unused

    def images_per_iteration(self, classes: int, ipc: int) -> int:
        """See [`Loop`][sdc_ext.adapters.Loop].

        DCC's warm-up is not counted, nor are clusterings, which need no gradients.
        """
        synthetic = classes * ipc * self.decoder.parts
        matching = self.outer_loop * (classes * self.batch_real + synthetic)
        return matching + (self.outer_loop - 1) * self.inner_loop * synthetic

    def matching_loss(self) -> Callable[..., Tensor]:
        """Returns the distance between gradients that ``dis_metric`` names."""
        return gradient_distance(self.dis_metric)

    def start(self, task: Task) -> ImageState:
        """Returns the state with the initial images that ``init`` names."""
        return ImageState.initial(task, self.init, self.lr_img, self.decoder)

    def step(
        self, state: ImageState, task: Task, loss_fn: SDCLoss, iteration: int
    ) -> dict[str, float]:
        """Draws a network and updates the images ``outer_loop`` times while it is trained.

        The log is a mean over the updates. If only easy real images are matched, ``easy_share`` is
        the share of the batches that they make up. Now and then the difficulty of the images of
        the first update is added; see ``batch_difficulty``.
        """
        member = task.draw_member(iteration)
        network = task.new_network(member)
        batch_loss = task.batch_losses[member]
        optimizer = SGD(network.parameters(), lr=self.lr_net)
        augmentation = task.augmentation(self.dsa_strategy)
        easy = self._easy_samples()
        chosen = state.real_batches(
            task,
            network,
            self.sampling,
            self.batch_real,
            refresh_every=self.refresh_every,
            updates=self.outer_loop,
        )
        measured: dict[str, float] = {}
        logs = []
        for update in range(self.outer_loop):
            if update > 0:
                self._train(network, optimizer, state, augmentation, batch_loss)
            freeze_batch_norm(network, task)
            warm = iteration < self.outer_warmup and update < self.inner_warmup
            match = self._match_all_classes if self.contrast and not warm else self._match_by_class
            batches = draw_batches(task, augmentation, self.batch_real, state.decoder, chosen)
            with _drawing_apart(task):
                result = match(network, state, task, batches, loss_fn, easy, batch_loss)
            if update == 0 and is_due(self, task, iteration):
                of = network, state.images, batches, task, iteration
                measured = batch_difficulty(*of, easy=easy, chosen=chosen is not None)
            result = result.settled(loss_fn)
            logs.append(result.log(self.lr_img))
            state.update(result.image_gradient, member)
            check_images(state.images)
        means = {name: sum(log[name] for log in logs) / len(logs) for name in logs[0]}
        if easy is not None:
            counts = torch.tensor([easy.chosen, easy.seen], device=state.images.device)
            matched, seen = task.reduce(counts).tolist()
            means["easy_share"] = matched / seen
        return means | measured

    def _easy_samples(self) -> EasySamples | None:
        if self.tau is None and self.tau_quantile is None:
            return None
        return EasySamples(self.tau or math.inf, self.tau_quantile or 1.0)

    def _match_all_classes(
        self,
        network: nn.Module,
        state: ImageState,
        task: Task,
        batches: Sequence[ClassBatch],
        loss_fn: SDCLoss,
        easy: EasySamples | None,
        batch_loss: BatchLoss,
    ) -> StepResult:
        """The real gradients are divided among processes; each computes all the rest."""
        own, classes = own_batches(task, batches), len(batches)
        part = real_gradient(network, own, classes, batch_loss=batch_loss, easy=easy)
        gw_real = [task.reduce(gradient) for gradient in part]
        labels = state.decoder.repeat(state.labels)
        whole = match_all_classes(network, state.images, labels, batches, gw_real, loss_fn)
        # Every process has computed it, but on GPUs rounding may differ and let them drift apart.
        return whole.each(broadcast)

    def _match_by_class(
        self,
        network: nn.Module,
        state: ImageState,
        task: Task,
        batches: Sequence[ClassBatch],
        loss_fn: SDCLoss,
        easy: EasySamples | None,
        batch_loss: BatchLoss,
    ) -> StepResult:
        """The classes are divided among processes."""
        own = own_batches(task, batches)
        part = match_by_class(network, state.images, own, loss_fn, batch_loss=batch_loss, easy=easy)
        total = part.each(task.reduce)
        # The difficulty is a mean over classes; the losses are sums, as in DC's script.
        return replace(total, difficulty=total.difficulty / len(batches))

    def _train(
        self,
        network: nn.Module,
        optimizer: SGD,
        state: ImageState,
        augmentation: Augmentation,
        batch_loss: BatchLoss,
    ) -> None:
        network.train()
        for _ in range(self.inner_loop):
            train_epoch(
                network,
                optimizer,
                *state.for_training(),
                batch_size=self.batch_train,
                augmentation=augmentation,
                batch_loss=batch_loss,
            )


def _drawing_apart(task: Task) -> AbstractContextManager[None]:
    """Lets each of several processes draw as often as it will, and all of them go on alike.

    Dropout draws for the classes of a process, of which there may be more or fewer.
    """
    device = task.accelerator.device
    devices = [device] if device.type == "cuda" else []
    return torch.random.fork_rng(devices, enabled=task.accelerator.num_processes > 1)


def freeze_batch_norm(network: nn.Module, task: Task) -> None:
    """Sets the statistics of batch norm from real images of all classes, then freezes them.

    A synthetic batch may be a single image, which is too few for statistics of its own.
    """
    layers = [m for m in network.modules() if isinstance(m, _BatchNorm)]
    if not layers:
        return
    network.train()
    index = [task.draw_indices(c, _BATCH_NORM_IMAGES) for c in range(task.num_classes)]
    with torch.no_grad():
        network(task.real_images(torch.cat(index)))
    for layer in layers:
        layer.eval()


def _real_gradient(
    network: nn.Module, batch: ClassBatch, batch_loss: BatchLoss, easy: EasySamples | None
) -> tuple[Tensor, ...]:
    images = batch.replay(batch.real())
    labels = torch.full((len(images),), batch.label, device=images.device)
    if easy is not None:
        index = easy.matched[batch.label] = easy(network, images, labels)
        images, labels = images[index], labels[index]
    return mean_gradient(network, images, labels, batch_loss=batch_loss)

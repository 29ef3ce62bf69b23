"""The distribution-matching loop, which serves DM."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import einops
import torch
import torch.nn.functional as F
from accelerate.utils import broadcast
from torch import Tensor, nn

from sdc_ext._options import IMAGES, MATCHING, option
from sdc_ext._values import Count, Factor, Part, Rate, check_fields
from sdc_ext.adapters.base import Loop
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
from sdc_ext.adapters.task import Task
from sdc_ext.augment.corruptions import parse_corruption
from sdc_ext.augment.parse import parse_augmentation
from sdc_ext.matching.discrepancies import DiscrepancyName, summed_over_classes
from sdc_ext.matching.distances import mean_feature_distance
from sdc_ext.networks.chunks import uses_batch_statistics
from sdc_ext.networks.features import noted_features
from sdc_ext.regularizer import gradient_norm
from sdc_ext.sdc_loss import SDCLoss

Features: TypeAlias = Tensor | Sequence[Tensor]
"""Mean features (classes, D), or the features (B, D) of each class."""


def mean_by_class(features: Tensor, classes: int) -> Tensor:
    """Returns the mean (classes, D) of features (N, D), which are equally many per class."""
    means: Tensor = einops.reduce(features, "(classes ipc) d -> classes d", "mean", classes=classes)
    return means


def sets_by_class(features: Tensor, classes: int) -> Sequence[Tensor]:
    """Returns features (N, D), which are equally many per class, as one tensor per class."""
    return features.chunk(classes)


def match_distributions(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    batches: Sequence[ClassBatch],
    real_features: Callable[[], Features],
    loss_fn: SDCLoss,
    by_class: Callable[[Tensor, int], Features] = mean_by_class,
) -> StepResult:
    """Matches the features of each class, and sums the losses (DM Eq. 6).

    ``sum_c D(f(A(real^c)), f(A(syn^c))) + lam ||grad_theta L(A(syn))||_2``, where the discrepancy D
    of DM is ``||mean f(A(real^c)) - mean f(A(syn^c))||^2``.

    Distribution matching itself needs no training loss. The correction does, and computes it from
    the outputs of the same forward pass as the features.

    Args:
        network: A random network in training mode; its features f are the inputs of its last
            linear layer.
        images: The stored images (N, C, H, W), equally many per class, which are not changed.
        labels: The labels (n,) int64 of the images that they decode to.
        batches: The batches of all classes, which hold the augmentation of the synthetic images.
        real_features: Returns what ``by_class`` does, for the augmented real images; see
            ``mean_real_features``. It is called once, after the forward pass of the synthetic
            images, which fixes the order in which dropout draws.
        loss_fn: Maps (synthetic, real) features by class to a scalar.
        by_class: Maps features (N, D), equally many per class, and the number of classes to what
            the loss compares: mean features (classes, D), or one tensor of features per class.
    """
    leaf = images.detach().requires_grad_()
    seen = torch.cat([batch.seen(leaf[batch.rows]) for batch in batches])
    with noted_features(network) as noted:
        output = network(seen)
    synthetic = by_class(noted[0], len(batches))
    real = real_features()
    parameters = [p for p in network.parameters() if p.requires_grad]
    gradient = torch.autograd.grad(
        F.cross_entropy(output, labels),
        parameters,
        retain_graph=True,
        create_graph=loss_fn.needs_graph,
        materialize_grads=True,
    )
    corrected = loss_fn.corrected([gradient_norm(gradient)], synthetic, real)
    return StepResult.of(corrected, leaf, loss_fn)


def mean_real_features(network: nn.Module, batches: Sequence[ClassBatch]) -> Tensor:
    """Returns the mean features of the augmented real images of some classes.

    Memory holds one class at a time, unless the network uses batch statistics: those are taken
    over all classes together, as in DM's script.

    Args:
        network: A random network in training mode; its features are the inputs of its last
            linear layer.
        batches: The batches of at least one class.

    Returns:
        Mean features (len(batches), D).
    """
    found = _features(network, batches, lambda features: features.mean(0))
    return torch.stack(found)


def shared_real_features(network: nn.Module, batches: Sequence[ClassBatch], task: Task) -> Tensor:
    """Returns the mean features (classes, D) of all classes, divided among processes.

    With batch statistics, which need all classes together, every process computes all of them.
    """
    if uses_batch_statistics(network):
        return mean_real_features(network, batches)
    own = own_batches(task, batches)
    # A process without a class of its own computes one anyway, since it needs to know D. This
    # costs no time, because the other processes are busy with theirs.
    means = mean_real_features(network, own or batches[:1])
    shared = means.new_zeros(len(batches), means.shape[1])
    shared[[batch.label for batch in own]] = means[: len(own)]
    return task.reduce(shared)


def shared_feature_sets(
    network: nn.Module, batches: Sequence[ClassBatch], task: Task
) -> list[Tensor]:
    """Returns the features (B, D) of the augmented real images of each class.

    They are divided among processes as by ``shared_real_features``. Every process holds the
    features of all classes.
    """
    if uses_batch_statistics(network):
        return _features(network, batches)
    own = own_batches(task, batches)
    found = _features(network, own or batches[:1])
    device = found[0].device
    sizes = torch.zeros(len(batches), dtype=torch.int64, device=device)
    for batch, features in zip(own, found, strict=False):
        sizes[batch.label] = len(features)
    sizes_of_all = task.reduce(sizes).tolist()
    shared = found[0].new_zeros(sum(sizes_of_all), found[0].shape[1])
    rows = torch.split(shared, sizes_of_all)
    for batch, features in zip(own, found, strict=False):
        rows[batch.label].copy_(features)
    return list(torch.split(task.reduce(shared), sizes_of_all))


@dataclass(frozen=True)
class DistributionMatching(Loop):
    """The distribution-matching loop, with the names and defaults of DM's script.

    An outer iteration draws a random network and updates the images once; no network is trained.

    Raises:
        InputError: If the initialisation, the augmentation, the corruption or the discrepancy is
            unknown, the discrepancy needs POT and it is not installed, or a count or rate is not
            above 0.

    Reference: DM, Algorithm 1, and DatasetCondensation's ``main_DM.py``.
    """

    init: Init = option("real", "initial images", group=IMAGES)
    factor: Factor = factor_option()
    dsa_strategy: str = strategy_option("none")
    lr_img: Rate = option(1.0, "learning rate of the images", group=IMAGES)
    discrepancy: DiscrepancyName = option(
        "mmd-linear",
        "what is matched per class: mmd-linear (the means), mmd-gaussian, mmd-laplacian, "
        "mmd-polynomial, energy, or with sdc-ext[ot] sliced, sinkhorn",
        group=MATCHING,
    )
    batch_real: Count = option(256, "number of real images per class and update", group=MATCHING)
    sampling: Sampling = sampling_option()
    real_corruption: str = option(
        "none",
        "corruption of the real images alone: none, or NAME:SEVERITY, e.g. gaussian-noise:3",
        group=MATCHING,
    )
    refresh_every: Count = refresh_option()
    measure_cost: Part = cost_option()

    def __post_init__(self) -> None:
        check_fields(self)
        parse_augmentation(self.dsa_strategy)
        parse_corruption(self.real_corruption)
        self.matching_loss()

    @property
    def unused(self) -> dict[str, str]:
        """The setting of clustering, if the real images are random."""
        return {"refresh_every": "`sampling` is random"} if self.sampling == "random" else {}

    @property
    def compiles(self) -> bool:
        """False: features and the gradient of the synthetic images are computed uncompiled."""
        return False

    def images_per_iteration(self, classes: int, ipc: int) -> int:
        """See [`Loop`][sdc_ext.adapters.Loop]; clusterings, without gradients, are not counted."""
        return classes * (self.batch_real + ipc * self.decoder.parts)

    def matching_loss(self) -> Callable[..., Tensor]:
        """Returns the discrepancy between the classes' features, summed over classes."""
        if self._matches_means:
            return mean_feature_distance
        return summed_over_classes(self.discrepancy)

    @property
    def _matches_means(self) -> bool:
        return self.discrepancy == "mmd-linear"

    def start(self, task: Task) -> ImageState:
        """Returns the state with the initial images that ``init`` names."""
        return ImageState.initial(task, self.init, self.lr_img, self.decoder)

    def step(
        self, state: ImageState, task: Task, loss_fn: SDCLoss, iteration: int
    ) -> dict[str, float]:
        """Draws a random network and updates the images once.

        Now and then the difficulty of the images is logged; see ``batch_difficulty``.
        """
        member = task.draw_member(iteration)
        network = task.new_network(member)
        augmentation = task.augmentation(self.dsa_strategy)
        chosen = state.real_batches(
            task, network, self.sampling, self.batch_real, refresh_every=self.refresh_every
        )
        corruption = parse_corruption(self.real_corruption, task.data.preprocessing)
        batches = draw_batches(
            task, augmentation, self.batch_real, state.decoder, chosen, corruption
        )
        real = shared_real_features if self._matches_means else shared_feature_sets
        result = match_distributions(
            network,
            state.images,
            state.decoder.repeat(state.labels),
            batches,
            partial(real, network, batches, task),
            loss_fn,
            mean_by_class if self._matches_means else sets_by_class,
        )
        # On GPUs, rounding may differ between processes and let them drift apart.
        result = result.each(broadcast).settled(loss_fn)
        log = result.log(self.lr_img)
        if is_due(self, task, iteration):
            of = network, state.images, batches, task, iteration
            log |= batch_difficulty(*of, chosen=chosen is not None)
        state.update(result.image_gradient, member)
        check_images(state.images)
        return log


@torch.no_grad()
def _features(
    network: nn.Module,
    batches: Sequence[ClassBatch],
    summary: Callable[[Tensor], Tensor] = lambda features: features,
) -> list[Tensor]:
    """Returns a summary of the features (B, D) of each class's augmented real images."""
    groups = [batches] if uses_batch_statistics(network) else [[batch] for batch in batches]
    return [
        summary(features) for group in groups for features in _features_of_classes(network, group)
    ]


def _features_of_classes(network: nn.Module, batches: Sequence[ClassBatch]) -> Sequence[Tensor]:
    real = [batch.replay(batch.real()) for batch in batches]
    with noted_features(network) as noted:
        network(torch.cat(real))
    return torch.split(noted[0], [len(images) for images in real])

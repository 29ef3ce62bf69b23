"""The distribution-matching loop, which serves DM."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import einops
import torch
import torch.nn.functional as F
from accelerate.utils import broadcast
from torch import Tensor, nn

from sdc_ext._options import IMAGES, MATCHING, option
from sdc_ext._values import Count, Factor, Rate, check_fields
from sdc_ext.adapters.base import Loop
from sdc_ext.adapters.loops.representative import Sampling, refresh_option, sampling_option
from sdc_ext.adapters.loops.starts import factor_option
from sdc_ext.adapters.loops.states import ImageState, Init, check_images
from sdc_ext.adapters.loops.steps import ClassBatch, StepResult, draw_batches, own_batches
from sdc_ext.adapters.task import Task
from sdc_ext.augment.parse import parse_augmentation
from sdc_ext.matching.distances import mean_feature_distance
from sdc_ext.networks.chunks import uses_batch_statistics
from sdc_ext.networks.features import noted_features
from sdc_ext.regularizer import gradient_norm
from sdc_ext.sdc_loss import SDCLoss
from sdc_ext.sets.decoding import Decoder


def match_distributions(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    batches: Sequence[ClassBatch],
    real_means: Callable[[], Tensor],
    loss_fn: SDCLoss,
) -> StepResult:
    """Matches the mean features of each class, and sums the losses (DM Eq. 6).

    ``sum_c ||mean f(A(real^c)) - mean f(A(syn^c))||^2 + lam ||grad_theta L(A(syn))||_2``

    Distribution matching itself needs no training loss. The correction does, and computes it from
    the outputs of the same forward pass as the features.

    Args:
        network: A random network in training mode; its features f are the inputs of its last
            linear layer.
        images: The stored images (N, C, H, W), equally many per class, which are not changed.
        labels: The labels (n,) int64 of the images that they decode to.
        batches: The batches of all classes, which hold the augmentation of the synthetic images.
        real_means: Returns the mean features (classes, D) of the augmented real images; see
            ``mean_real_features``. It is called once, after the forward pass of the synthetic
            images, which fixes the order in which dropout draws.
        loss_fn: Maps (synthetic, real) mean features (classes, D) to a scalar.
    """
    leaf = images.detach().requires_grad_()
    seen = torch.cat([batch.seen(leaf[batch.rows]) for batch in batches])
    with noted_features(network) as noted:
        output = network(seen)
    means = _mean_by_class(noted[0], len(batches))
    real = real_means()
    parameters = [p for p in network.parameters() if p.requires_grad]
    gradient = torch.autograd.grad(
        F.cross_entropy(output, labels),
        parameters,
        retain_graph=True,
        create_graph=loss_fn.needs_graph,
        materialize_grads=True,
    )
    corrected = loss_fn.corrected([gradient_norm(gradient)], means, real)
    return StepResult.of(corrected, leaf, loss_fn)


@torch.no_grad()
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
    if uses_batch_statistics(network):
        return _features_of_classes(network, batches)
    return torch.cat([_features_of_classes(network, [batch]) for batch in batches])


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


@dataclass(frozen=True)
class DistributionMatching(Loop):
    """The distribution-matching loop, with the names and defaults of DM's script.

    An outer iteration draws a random network and updates the images once; no network is trained.

    Raises:
        InputError: If the initialisation or the augmentation is unknown, or a count or rate is
            not above 0.

    Reference: DM, Algorithm 1, and DatasetCondensation's ``main_DM.py``.
    """

    init: Init = option("real", "initial images", group=IMAGES)
    factor: Factor = factor_option()
    dsa_strategy: str = option(
        "none",
        "siamese augmentation: none, e.g. color_crop, or kornia:Name(key=value)",
        group=MATCHING,
    )
    lr_img: Rate = option(1.0, "learning rate of the images", group=IMAGES)
    batch_real: Count = option(256, "number of real images per class and update", group=MATCHING)
    sampling: Sampling = sampling_option()
    refresh_every: Count = refresh_option()

    def __post_init__(self) -> None:
        check_fields(self)
        parse_augmentation(self.dsa_strategy)

    @property
    def unused(self) -> set[str]:
        """The setting of clustering, if the real images are random."""
        return {"refresh_every"} if self.sampling == "random" else set()

    @property
    def decoder(self) -> Decoder:
        """Decodes the stored images by ``factor``."""
        return Decoder(self.factor)

    def images_per_iteration(self, classes: int, ipc: int) -> int:
        """See [`Loop`][sdc_ext.adapters.Loop]; clusterings, without gradients, are not counted."""
        return classes * (self.batch_real + ipc * self.decoder.parts)

    def matching_loss(self) -> Callable[..., Tensor]:
        """Returns the squared distance between the classes' mean features, summed over classes."""
        return mean_feature_distance

    def start(self, task: Task) -> ImageState:
        """Returns the state with the initial images that ``init`` names."""
        return ImageState.initial(task, self.init, self.lr_img, self.decoder)

    def step(
        self, state: ImageState, task: Task, loss_fn: SDCLoss, iteration: int
    ) -> dict[str, float]:
        """Draws a random network and updates the images once."""
        member = task.draw_member(iteration)
        network = task.new_network(member)
        augmentation = task.augmentation(self.dsa_strategy)
        chosen = state.real_batches(
            task, network, self.sampling, self.batch_real, refresh_every=self.refresh_every
        )
        batches = draw_batches(task, augmentation, self.batch_real, state.decoder, chosen)
        result = match_distributions(
            network,
            state.images,
            state.decoder.repeat(state.labels),
            batches,
            partial(shared_real_features, network, batches, task),
            loss_fn,
        )
        # On GPUs, rounding may differ between processes and let them drift apart.
        result = result.each(broadcast).settled(loss_fn)
        log = result.log(self.lr_img)
        state.update(result.image_gradient, member)
        check_images(state.images)
        return log


def _features_of_classes(network: nn.Module, batches: Sequence[ClassBatch]) -> Tensor:
    real = [batch.replay(batch.real()) for batch in batches]
    with noted_features(network) as noted:
        network(torch.cat(real))
    parts = torch.split(noted[0], [len(images) for images in real])
    return torch.stack([part.mean(0) for part in parts])


def _mean_by_class(features: Tensor, classes: int) -> Tensor:
    means: Tensor = einops.reduce(features, "(classes ipc) d -> classes d", "mean", classes=classes)
    return means

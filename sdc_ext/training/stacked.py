"""Trains several networks of one architecture at once, with stacked parameters.

On a GPU, a step on the few images of a distilled set is bound by the number of kernels, not by
their work. The forward and backward pass of a stack take as many kernels as those of one network.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.optim import Optimizer

from sdc_ext._seeds import Draws
from sdc_ext.augment.base import Augmentation, Normalisation
from sdc_ext.augment.mix import Mix, parse_mix
from sdc_ext.augment.parse import parse_augmentation
from sdc_ext.networks.trial import Trial
from sdc_ext.training.label_loss import PLAIN, LabelLoss
from sdc_ext.training.recipe import TrainingRecipe, follow_schedule, loss_and_labels

# Parameters or buffers of all networks by name, each (K, ...).
_Stacked = dict[str, Tensor]

# Differentiates (parameters, constants, images (K, B, C, H, W), labels (K, B, ...)).
_Gradients = Callable[[_Stacked, _Stacked, Tensor, Tensor], _Stacked]


class StackedGradient:
    """Computes the gradients of the mean loss of K networks, each on its own batch.

    The loss is the cross-entropy unless ``with_label_loss`` has chosen another one.

    Args:
        bf16: Whether to compute the networks in bfloat16; parameters and gradients keep their
            precision.
        compile: Whether to compile the computation for the shape of the first batch. Other shapes
            run without compilation. New networks of the same architecture share the compiled code.
    """

    def __init__(self, *, bf16: bool = False, compile: bool = False) -> None:
        self._bf16 = bf16
        self._compile = compile
        self._label_loss = PLAIN
        self._compiled: dict[LabelLoss, tuple[torch.Size, _Gradients]] = {}

    def with_label_loss(self, label_loss: LabelLoss) -> StackedGradient:
        """Returns what computes the gradients of another loss, with the same compiled code."""
        other = copy.copy(self)
        other._label_loss = label_loss
        return other

    @torch.no_grad()  # or torch.func.grad keeps a graph of the gradients, too
    def __call__(
        self,
        network: nn.Module,
        parameters: _Stacked,
        constants: _Stacked,
        images: Tensor,
        labels: Tensor,
    ) -> _Stacked:
        """Returns the gradients by name, each of the shape of its stacked parameter, detached.

        Args:
            network: The architecture; its own parameters are not used.
            parameters: What the networks are differentiated by, each (K, ...).
            constants: All other parameters and buffers, each (K, ...).
            images: Images (K, B, C, H, W), normalised.
            labels: Labels (K, B) int64, or (K, B, classes) probabilities.
        """
        if self._compile:
            if self._label_loss not in self._compiled:
                # The copy keeps the mode that was compiled when the network changes its own.
                function = _stacked_gradients(copy.deepcopy(network), self._bf16, self._label_loss)
                compiled = torch.compile(function, dynamic=False)
                self._compiled[self._label_loss] = images.shape, compiled
            shape, compiled = self._compiled[self._label_loss]
            if images.shape == shape:
                return compiled(parameters, constants, images, labels)
        plain = _stacked_gradients(network, self._bf16, self._label_loss)
        return plain(parameters, constants, images, labels)


def train_stack(
    networks: Sequence[nn.Module],
    draws: Sequence[Draws],
    images: Tensor,
    labels: Tensor,
    recipe: TrainingRecipe,
    gradient: StackedGradient,
    normalisation: Normalisation | None = None,
) -> None:
    """Trains networks as [`train_from_scratch`][sdc_ext.training.train_from_scratch] trains each.

    The results are the same up to rounding, since every network keeps its own random numbers.

    Args:
        networks: Networks of one architecture, freshly initialised, without an ``obstacle``.
        draws: The random numbers of each network, from which it has drawn its initialisation.
        images: Images (N, C, H, W), normalised, on the networks' device.
        labels: Labels (N,) int64, or (N, classes) probabilities.
        recipe: The hyper-parameters.
        gradient: Computes the gradients of all networks.
        normalisation: See [`train_from_scratch`][sdc_ext.training.train_from_scratch].
    """
    augmentation = parse_augmentation(
        recipe.augmentation, align_corners=recipe.align_corners, normalisation=normalisation
    )
    loss, labels = loss_and_labels(networks[0], images, labels, recipe)
    gradient, mix = gradient.with_label_loss(loss), parse_mix(recipe.mix)
    for network in networks:
        network.train()
    parameters, constants = _stack(networks)

    def train_epoch(optimizer: Optimizer) -> None:
        for index in _orders(draws, images, recipe.batch_size):
            batch, targets = _drawn(draws, images, labels, index, augmentation, mix)
            found = gradient(networks[0], parameters, constants, batch, targets)
            for name, parameter in parameters.items():
                parameter.grad = found[name]
            optimizer.step()

    follow_schedule(list(parameters.values()), recipe, train_epoch)
    with torch.no_grad():
        for k, network in enumerate(networks):
            for name, parameter in network.named_parameters():
                if name in parameters:
                    parameter.copy_(parameters[name][k])


def obstacle(network: nn.Module, image_shape: tuple[int, ...]) -> str | None:
    """Returns why networks like this one have to be trained one by one; None if they need not be.

    Args:
        network: A network of the architecture, on the CPU.
        image_shape: The shape (C, H, W) of an image.
    """
    pair = [copy.deepcopy(network).train() for _ in range(2)]
    # Not zeros, which a running mean would not show.
    images = torch.linspace(-1, 1, 4 * math.prod(image_shape)).view(2, 2, *image_shape)
    labels = torch.zeros(2, 2, dtype=torch.int64)
    try:
        trial = Trial.of(pair[0], images[0])
        if trial.draws:
            return "it has dropout"
        if trial.changed:
            return f"training changes its buffer {trial.changed[0]}"
        StackedGradient()(pair[0], *_stack(pair), images, labels)
    except (RuntimeError, TypeError, ValueError) as error:  # whatever vmap says of foreign code
        return " ".join(str(error).split())[:200].rstrip(".")
    return None


def _stacked_gradients(network: nn.Module, bf16: bool, label_loss: LabelLoss) -> _Gradients:
    def loss(parameters: _Stacked, constants: _Stacked, x: Tensor, y: Tensor) -> Tensor:
        # Inside, so that the backward pass is outside, as torch advises.
        with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16):
            return label_loss.mean(functional_call(network, (parameters, constants), (x,)), y)

    gradients: _Gradients = vmap(grad(loss))
    return gradients


def _stack(networks: Sequence[nn.Module]) -> tuple[_Stacked, _Stacked]:
    """Returns the stacked parameters that are trained, and everything else that is stacked."""
    parameters, constants = stack_module_state(list(networks))
    for name in [name for name, p in parameters.items() if not p.requires_grad]:
        constants[name] = parameters.pop(name)
    return parameters, constants


def _orders(draws: Sequence[Draws], images: Tensor, batch_size: int) -> Sequence[Tensor]:
    """Returns the images (K, B) of every batch of an epoch, in an order for each network."""
    orders = []
    for own in draws:
        with own:
            orders.append(torch.randperm(len(images)))
    return torch.split(torch.stack(orders).to(images.device), batch_size, dim=1)


def _drawn(
    draws: Sequence[Draws],
    images: Tensor,
    labels: Tensor,
    index: Tensor,
    augmentation: Augmentation,
    mix: Mix,
) -> tuple[Tensor, Tensor]:
    """Returns every network's images (K, B, C, H, W) and labels (K, B, ...), by its own draws."""
    height, width = images.shape[2:]
    batches = []
    for own, chosen in zip(draws, index, strict=True):
        with own:
            replay = augmentation.draw((height, width), len(chosen))
            mixed = mix.draw((height, width), len(chosen))
        batches.append(mixed(replay(images[chosen]), labels[chosen]))
    of_images, of_labels = zip(*batches, strict=True)
    return torch.stack(of_images), torch.stack(of_labels)

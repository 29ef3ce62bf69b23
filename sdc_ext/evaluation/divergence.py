"""Shows that a learning rate is too high for a set, before hours are spent on it."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from sdc_ext._seeds import seed_torch
from sdc_ext.networks.create import create_network
from sdc_ext.sets.synthetic_set import SyntheticSet
from sdc_ext.training.recipe import TrainingRecipe

# Sets are distilled for rates around 0.01, and lower ones do not diverge. This is not looked at
# there, so that usual evaluations cost nothing more.
_HIGH = 0.1

# A rate diverges from the first steps on.
_STEPS = 20

_MOST_IMAGES = 256


def divergence(synthetic: SyntheticSet, network: str, recipe: TrainingRecipe) -> str | None:
    """Returns a sentence on what a few steps do to the loss if it rises; None if it falls.

    Args:
        synthetic: The set.
        network: The architecture.
        recipe: The recipe, of which rates below 0.1, and other optimisers than SGD, are not tried.
    """
    if recipe.lr < _HIGH or recipe.optimizer != "sgd":
        return None
    losses = _losses(synthetic, network, recipe)
    if losses[-1] <= losses[0]:  # not so if the last one is NaN
        return None
    return (
        f"the learning rate {recipe.lr:g} is too high for {network}: in {len(losses) - 1} steps "
        f"the loss rises from {losses[0]:.3g} to {losses[-1]:.3g}"
    )


def _losses(synthetic: SyntheticSet, network: str, recipe: TrainingRecipe) -> list[float]:
    """Returns the loss before and after each step, up to the first that is not finite."""
    height, width = synthetic.images.shape[2:]
    shape = synthetic.images.shape[1], len(synthetic.info.classes), (height, width)
    with torch.random.fork_rng():
        seed_torch(0, "divergence")
        model = create_network(network, *shape)
        index = torch.randperm(len(synthetic.images))[:_MOST_IMAGES]  # sets are sorted by class
        images, labels = synthetic.images[index], synthetic.labels[index]
        optimizer = torch.optim.SGD(model.parameters(), recipe.lr, momentum=recipe.momentum)
        losses: list[float] = []
        for _ in range(_STEPS + 1):
            loss = F.cross_entropy(model(images), labels)
            losses.append(float(loss.detach()))
            if not math.isfinite(losses[-1]):
                break
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
    return losses

"""Warns of learning rates that are far from those that a set was made for."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from sdc_ext._seeds import seed_torch
from sdc_ext.networks.create import create_network
from sdc_ext.sets.synthetic_set import SyntheticSet

# A rate that is so many times another is a slip of the decimal point, or of another project: what
# projects learn for one data set lies within a factor of about five.
_FAR = 10.0

# As many steps show whether a rate diverges, since it does so from the first steps on.
_STEPS = 20

_MOST_IMAGES = 256


def warning_about(lr: float, own: float | None, synthetic: SyntheticSet) -> list[str]:
    """Returns a warning if a declared learning rate is far off, with what it does to a network.

    Args:
        lr: The declared rate.
        own: The rate in the files of the set, or of its project; None if there is none.
        synthetic: The set.
    """
    usual = 0.01 if own is None else own
    if usual / _FAR < lr < usual * _FAR:
        return []
    whose = "projects of this kind use" if own is None else "its files and project use"
    line = f"trained with a learning rate of {lr:g}, as you say, although {whose} {usual:g}"
    return [f"{line}; {_trial(lr, synthetic)}"]


def _trial(lr: float, synthetic: SyntheticSet) -> str:
    """Says how the loss changes in a few steps with a rate."""
    with torch.random.fork_rng():
        seed_torch(0, "declared rate")
        size = (synthetic.images.shape[2], synthetic.images.shape[3])
        shape = synthetic.images.shape[1], len(synthetic.info.classes), size
        network = create_network(synthetic.info.network, *shape)
    images, labels = synthetic.images[:_MOST_IMAGES], synthetic.labels[:_MOST_IMAGES]
    optimizer = torch.optim.SGD(network.parameters(), lr=lr, momentum=0.9)
    losses = []
    for _ in range(_STEPS + 1):
        loss = F.cross_entropy(network(images), labels)
        losses.append(float(loss.detach()))
        if not math.isfinite(losses[-1]):
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    verb = "falls" if losses[-1] < losses[0] else "rises"
    return (
        f"in {len(losses) - 1} steps the loss of {synthetic.info.network} {verb} from "
        f"{losses[0]:.3g} to {losses[-1]:.3g}"
    )

"""Runs a copy of a network, to see whether its calls can be repeated and what they change."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase


@dataclass(frozen=True)
class Trial:
    """What the calls of a network do beside computing its output.

    Attributes:
        draws: Whether a call draws random numbers, as under dropout.
        changed: The names of the buffers that a call changes, such as running statistics.
        varies: Whether the next call with the same images has another output, since a call draws
            random numbers or uses a buffer that it changes.
    """

    draws: bool
    changed: tuple[str, ...]
    varies: bool

    @classmethod
    @torch.no_grad()
    def of(cls, network: nn.Module, images: Tensor) -> Trial:
        """Runs a copy of a network, in the network's mode, on images (B, C, H, W)."""
        network = copy.deepcopy(network).to(images.device)
        before = {name: buffer.clone() for name, buffer in network.named_buffers()}
        states = _random_states(images.device)
        output = network(images)
        draws = not all(map(torch.equal, states, _random_states(images.device)))
        changed = {
            name: buffer
            for name, buffer in network.named_buffers()
            if name not in before or not torch.equal(buffer, before[name])
        }
        # In training, torch's norms do not use the statistics that they change. Only for others a
        # second call is compared, since on GPUs it may differ by rounding.
        norms = [m for m in network.modules() if isinstance(m, _NormBase)]
        of_norms = {id(buffer) for norm in norms for buffer in norm.buffers()}
        own = any(id(buffer) not in of_norms for buffer in changed.values())
        varies = draws or (own and not torch.equal(output, network(images)))
        return cls(draws, tuple(changed), varies)


def _random_states(device: torch.device) -> list[Tensor]:
    on_gpu = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    return [torch.get_rng_state(), *on_gpu]

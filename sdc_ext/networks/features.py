"""What a network makes of images before its last layer: features."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from sdc_ext.errors import InputError


@contextmanager
def noted_features(network: nn.Module) -> Iterator[list[Tensor]]:
    """Notes what the last linear layer is given (B, D) at every call of the network, in graph.

    Works with any network that ends in a linear layer, ours and timm's.

    Raises:
        InputError: if the network has none.
    """
    linear = [m for m in network.modules() if isinstance(m, nn.Linear)]
    if not linear:
        raise InputError("the network has no linear layer to take features from: choose another")
    noted: list[Tensor] = []
    handle = linear[-1].register_forward_pre_hook(lambda _, given: noted.append(given[0]))
    try:
        yield noted
    finally:
        handle.remove()


@torch.inference_mode()
def take_features(network: nn.Module, batches: Iterable[Tensor]) -> Tensor:
    """What the last linear layer is given of images (N, D), on the CPU.

    The network is left in evaluation mode, in which an image's features are its own.

    Args:
        network: one of ours or of timm's.
        batches: images (B, C, H, W), on its device.

    Raises:
        InputError: if it has no linear layer.
    """
    network.eval()
    with noted_features(network) as noted:
        for x in batches:
            network(x)
            noted[-1] = noted[-1].cpu()
    return torch.cat(noted)

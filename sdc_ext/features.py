"""What a network makes of images before its last layer: features."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

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

"""Takes features, i.e. the input of a network's last linear layer, and outputs of many images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from sdc_ext.errors import InputError
from sdc_ext.networks.chunks import forward_chunk_size


@contextmanager
def noted_features(network: nn.Module) -> Iterator[list[Tensor]]:
    """Records the features (B, D) of every call of the network, with their graphs.

    It works with any network that ends in a linear layer, built-in or not. The last one is the one
    that is called last, in whatever order the network holds them.

    Args:
        network: The network.

    Returns:
        A context manager that yields the list to which the features are appended.

    Raises:
        InputError: If a call uses no linear layer.
    """
    noted: list[Tensor] = []
    inputs: list[Tensor] = []  # of the linear layer that was called last

    def note(*_: object) -> None:
        if not inputs:
            raise InputError(
                "the network has no linear layer to take features from: choose another network"
            )
        noted.append(inputs.pop())

    def keep(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        inputs[:] = given[:1]

    linear = [m for m in network.modules() if isinstance(m, nn.Linear)]
    handles = [m.register_forward_pre_hook(keep) for m in linear]
    handles.append(network.register_forward_hook(note))
    try:
        yield noted
    finally:
        for handle in handles:
            handle.remove()


@torch.inference_mode()
def take_features(network: nn.Module, batches: Iterable[Tensor]) -> Tensor:
    """Returns the features (N, D) of all images, on the CPU.

    The network is left in evaluation mode, in which an image's features do not depend on its
    batch.

    Args:
        network: Any network that ends in a linear layer.
        batches: Batches of images (B, C, H, W), normalised, on the network's device.

    Raises:
        InputError: If the network has no linear layer.
    """
    network.eval()
    with noted_features(network) as noted:
        for x in batches:
            network(x)
            noted[-1] = noted[-1].cpu()
    return torch.cat(noted)


def features_of(network: nn.Module, images: Tensor) -> Tensor:
    """Returns the features (N, D) of images, in chunks that suit the network's device; on the CPU.

    Args:
        network: Any network that ends in a linear layer; it is left in evaluation mode.
        images: Images (N, C, H, W), normalised, on any device.

    Raises:
        InputError: If the network has no linear layer.
    """
    return take_features(network, _chunks(network, images)).flatten(1)


@torch.inference_mode()
def outputs_of(network: nn.Module, images: Tensor) -> Tensor:
    """Returns the outputs (N, classes) of a network in evaluation mode; see ``features_of``."""
    network.eval()
    return torch.cat([network(x).cpu() for x in _chunks(network, images)])


def _chunks(network: nn.Module, images: Tensor) -> Iterator[Tensor]:
    device = next(network.parameters()).device
    return (x.to(device) for x in torch.split(images, forward_chunk_size(images, device)))

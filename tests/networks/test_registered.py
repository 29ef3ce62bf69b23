"""Networks of others: by name, with options, in methods and in files."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch import nn

from sdc_ext.errors import InputError
from sdc_ext.networks.create import check_network, create_network
from sdc_ext.networks.registry import network_name, register_network


def small(channels: int, classes: int, size: tuple[int, int], width: int = 4) -> nn.Module:
    return nn.Sequential(
        *(nn.Flatten(), nn.Linear(channels * size[0] * size[1], width), nn.Linear(width, classes))
    )


class Pixelwise(nn.Module):
    """Takes images of 8x8 alone."""

    def __init__(self, in_chans: int, num_classes: int, img_size: tuple[int, int]) -> None:
        super().__init__()
        self.linear = nn.Linear(in_chans * 64, num_classes)

    def forward(self, images: torch.Tensor) -> Any:
        return self.linear(images.flatten(1))


def test_registered_network_takes_options() -> None:
    register_network("tiny", small)
    network = create_network("tiny:width=7", 3, 5, (6, 8))
    assert network(torch.rand(2, 3, 6, 8)).shape == (2, 5)
    assert network[1].out_features == 7
    check_network("tiny", 1, 2, (4, 4))


def test_registered_name_goes_before_timms() -> None:
    register_network("resnet26", small)
    assert isinstance(create_network("resnet26", 3, 5, (32, 32)), nn.Sequential)
    assert not isinstance(create_network("timm:resnet26", 3, 5, (32, 32)), nn.Sequential)


def test_functions_and_classes_go_by_their_own_names() -> None:
    assert network_name("convnet:depth=2") == "convnet:depth=2"
    assert (network_name(small), network_name(Pixelwise)) == ("small", "Pixelwise")
    assert network_name(small) == "small"  # as a cell that is run again
    assert isinstance(create_network("Pixelwise", 1, 2, (8, 8)), Pixelwise)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (lambda c, k, s: small(c, k, s), "has no name of its own: register it"),
        (functools.partial(small, width=3), "has no name of its own: register it"),
        (Pixelwise(1, 2, (8, 8)), "a Pixelwise does not make networks: pass the name of a network"),
        (3, "a int does not make networks"),
    ],
)
def test_what_makes_no_networks_by_name_is_refused(source: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        network_name(source)


def test_our_networks_keep_their_names() -> None:
    with pytest.raises(InputError, match="network 'convnet' is built into sdc-ext"):
        register_network("convnet", small)
    with pytest.raises(InputError, match="'a:b' cannot name a network: use letters"):
        register_network("a:b", small)


def test_unknown_name_lists_registered_ones() -> None:
    register_network("tiny", small)
    with pytest.raises(InputError, match=r"'tinny': .*convnet, .*tiny, any timm name"):
        create_network("tinny", 1, 2, (4, 4))


class Pair(nn.Linear):
    """Returns features beside logits."""

    def __init__(self, in_chans: int, num_classes: int, img_size: tuple[int, int]) -> None:
        super().__init__(in_chans * img_size[0] * img_size[1], num_classes)

    def forward(self, x: torch.Tensor) -> Any:
        return super().forward(x.flatten(1)), x


def test_misfits_are_explained() -> None:
    network_name(Pixelwise)
    with pytest.raises(InputError, match=r"images of 1x9x9: it takes 8x8 pixels"):
        check_network("Pixelwise", 1, 2, (9, 9))
    with pytest.raises(InputError, match="'Pixelwise:width=3' does not take these options"):
        create_network("Pixelwise:width=3", 1, 2, (8, 8))
    register_network("blind", lambda in_chans, num_classes, img_size: small(in_chans, 7, img_size))
    with pytest.raises(InputError, match=r"'blind' returns .* \(2, 7\) for 2 images of 3 classes"):
        check_network("blind", 1, 3, (4, 4))
    register_network("pair", Pair)
    with pytest.raises(InputError, match=r"'pair' returns a tuple for 2 images of 3 classes: it"):
        check_network("pair", 1, 3, (4, 4))
    register_network("nothing", lambda in_chans, num_classes, img_size: None)
    with pytest.raises(InputError, match=r"made a NoneType: its function must return an nn.Module"):
        create_network("nothing", 1, 3, (4, 4))

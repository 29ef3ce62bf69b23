"""The features are what the linear layer takes that a network calls last."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sdc_ext.errors import InputError
from sdc_ext.networks.features import features_of, noted_features


class HeadFirst(nn.Module):
    """Holds its last layer before the others."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(5, 3)
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(16, 5), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


def test_the_last_layer_is_the_one_that_is_called_last() -> None:
    network, images = HeadFirst(), torch.randn(4, 1, 4, 4)
    torch.testing.assert_close(features_of(network, images), network.body(images))
    with noted_features(network) as noted:
        network(images)
        network(images[:2])
    network(images)
    assert [features.shape for features in noted] == [(4, 5), (2, 5)]
    assert all(features.requires_grad for features in noted)


def test_networks_without_linear_layer_have_no_features() -> None:
    network = nn.Sequential(nn.Conv2d(1, 3, 4), nn.Flatten())
    with pytest.raises(InputError, match="the network has no linear layer"):
        features_of(network, torch.randn(4, 1, 4, 4))

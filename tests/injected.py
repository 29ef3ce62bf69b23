"""Runs the stand-ins for scripts of others, a step in small, and first steps by hand."""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd import grad as early_grad
from torch.nn.functional import cross_entropy

STANDINS = Path(__file__).parent / "standins"
SCRIPTS = {"gm": "gm/main.py", "tm": "tm/distill.py", "tesla": "tesla/distill.py"}


def load(profile: str) -> ModuleType:
    """The stand-in for a profile, or a script of another path."""
    path = STANDINS / SCRIPTS.get(profile, profile)
    spec = importlib.util.spec_from_file_location("standin", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(profile: str, *arguments: str, seed: int = 0) -> tuple[Tensor, list[Any]]:
    module = load(profile)
    sys.modules["utils"].time = types.SimpleNamespace(time=lambda: seed)
    torch.manual_seed(seed)
    return module.main(list(arguments))


def unrolled_by_hand(profile: str, saw: Any) -> list[Tensor]:
    """Norms of the first image step's gradients, in graph of the images, which come first."""
    start, images, _ = saw
    images = images.clone().requires_grad_()
    network, labels = load(profile).network, torch.arange(3)
    params, norms = start.clone().requires_grad_(), []
    for _ in range(4):
        loss = cross_entropy(network(images, params), labels)
        (g,) = torch.autograd.grad(loss, params, create_graph=True)
        norms.append(g.norm())
        params = params - 0.1 * g
        if profile == "tesla":
            params = params.detach().requires_grad_()
    return [images, *norms]


def matched_by_hand(images: Tensor, contrast: bool) -> list[Tensor]:
    """The same for the network and the classes of gradient matching."""
    images = images.clone().requires_grad_()
    net = sys.modules["utils"].get_network(3)
    labels = torch.arange(3)
    batches = [slice(0, 3)] if contrast else [slice(c, c + 1) for c in range(3)]
    norms = []
    for rows in batches:
        loss = cross_entropy(net(images[rows]), labels[rows])
        gs = torch.autograd.grad(loss, list(net.parameters()), create_graph=True)
        norms.append(torch.cat([g.flatten() for g in gs]).norm())
    return [images, *norms]


class Matching:
    """A gradient-matching step in small, to be varied."""

    def __init__(self) -> None:
        self.images = torch.full((2, 1, 2), 0.3, requires_grad=True)
        self.weight = torch.ones(2, requires_grad=True)

    def loss(self, x: Tensor) -> Tensor:
        return torch.tanh(x * self.weight).square().sum()

    def matched(self, images: Tensor | None = None) -> Tensor:
        x = self.images if images is None else images
        (g,) = torch.autograd.grad(self.loss(x), iter([self.weight]), create_graph=True)
        return g.square().sum()

    def norm_gradient(self) -> Tensor:
        (g,) = early_grad(self.loss(self.images), self.weight, create_graph=True)
        return early_grad(g.norm(), self.images)[0]

    def plain_gradient(self) -> Tensor:
        (g,) = early_grad(self.loss(self.images), self.weight, create_graph=True)
        return early_grad(g.square().sum(), self.images)[0]

    def check(self, record: Any, captured: int = 1) -> None:
        """The term went in once, with weight 0.5."""
        expected = self.plain_gradient() + 0.5 * self.norm_gradient()
        torch.testing.assert_close(self.images.grad, expected)
        assert [step.captured for step in record.steps] == [captured]

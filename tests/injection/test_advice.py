"""Whatever profile a loop is run with first, its errors lead to the one that fits, or to none."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from sdc_ext import inject
from sdc_ext.errors import InjectionError

pytestmark = pytest.mark.usefixtures("doubles")

LABELS = torch.arange(3)
STEPS = 3


def network() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 3))


def class_gradients(images: Tensor) -> list[Tensor]:
    net = network()
    losses = [cross_entropy(net(images[c : c + 1]), LABELS[c : c + 1]) for c in range(3)]
    parameters = list(net.parameters())
    return [torch.autograd.grad(loss, parameters, create_graph=True)[0] for loss in losses]


def class_by_class(images: Tensor) -> None:
    for gradient in class_gradients(images):
        gradient.square().sum().backward()


def summed(images: Tensor) -> None:
    torch.stack(class_gradients(images)).square().sum().backward()


def classes_by_hand(images: Tensor) -> None:
    parts = [
        torch.autograd.grad(g.square().sum(), images, retain_graph=True)[0]
        for g in class_gradients(images)
    ]
    images.grad = torch.stack(parts).sum(0)


def step(images: Tensor, weights: Tensor, **how: bool) -> Tensor:
    logits = images.flatten(1) @ weights.view(16, 3)
    return torch.autograd.grad(cross_entropy(logits, LABELS), weights, **how)[0]


def start() -> Tensor:
    return torch.randn(48).requires_grad_()


def unroll(images: Tensor) -> Tensor:
    weights = start()
    for _ in range(STEPS):
        weights = weights - 0.1 * step(images, weights, create_graph=True)
    return weights.square().sum()


def unrolled(images: Tensor) -> None:
    unroll(images).backward()


def unrolled_by_hand(images: Tensor) -> None:
    (images.grad,) = torch.autograd.grad(unroll(images), images)


def two_passes(images: Tensor) -> None:
    weights = [start()]
    for _ in range(STEPS):
        new = weights[-1] - 0.1 * step(images, weights[-1])
        weights.append(new.detach().requires_grad_())
    total = torch.zeros_like(images)
    for known in weights[:-1]:
        product = (step(images, known, create_graph=True) * weights[-1].detach()).sum()
        total += torch.autograd.grad(product, images)[0]
    images.grad = total


def one_pass(images: Tensor) -> None:
    weights, total = start(), torch.zeros_like(images)
    for _ in range(STEPS):
        gradient = step(images, weights, create_graph=True)
        total += torch.autograd.grad(gradient.square().sum(), images, retain_graph=True)[0]
        weights = (weights - 0.1 * gradient).detach().requires_grad_()
    images.grad = total


def unused(images: Tensor) -> None:
    step(images, start(), create_graph=True)
    images.square().sum().backward()


def features(images: Tensor) -> None:
    network()(images).mean(0).square().sum().backward()


ENDS = [
    (class_by_class, ["gm", "tm"]),  # the mean of one norm is its sum
    (summed, ["gm"]),
    (classes_by_hand, ["gm"]),
    (unrolled, ["tm"]),
    (unrolled_by_hand, ["tm"]),
    (two_passes, ["tesla"]),
    (one_pass, ["gm", None]),  # the number of steps is not known before their end
    (unused, [None]),
    (features, ["dm"]),
]


def outcome(loop: Callable[[Tensor], None], profile: Any) -> str | None:
    """Runs two image steps; returns the error, or None if they are corrected."""
    torch.manual_seed(0)
    images = torch.randn(3, 1, 4, 4, requires_grad=True)
    label_syn = LABELS.clone()
    optimizer = torch.optim.SGD([images], lr=0.1)
    try:
        with inject(0.3, profile=profile) as record:
            for _ in range(2):
                optimizer.zero_grad()
                loop(images)
                optimizer.step()
    except InjectionError as error:
        return str(error)
    assert len(record.steps) >= 2
    assert len(label_syn) == len(images)
    return None


@pytest.mark.parametrize("first", ["gm", "tm", "tesla", "dm"])
@pytest.mark.parametrize(("loop", "fitting"), ENDS)
def test_advice_leads_to_the_profile_that_fits(
    loop: Any, fitting: list[str | None], first: str
) -> None:
    tried: list[str] = []
    profile = first
    while (message := outcome(loop, profile)) is not None:
        tried.append(profile)
        assert "with_sdc" in message or "use the profile" in message
        found = re.search(r"use the profile '(\w+)'", message)
        if found is None or found[1] in tried:
            break
        profile = found[1]
    assert message is None or "with_sdc" in message, (tried, message)
    assert (profile if message is None else None) in fitting, (tried, message)

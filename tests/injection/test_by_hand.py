"""Loops that update what they learn without an optimiser."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from sdc_ext import inject

pytestmark = pytest.mark.usefixtures("doubles")

Loss: TypeAlias = Callable[[Tensor, int], tuple[Tensor, Tensor]]

LABELS = torch.arange(3)
LAM, LR = 0.3, 0.1


def new_images() -> Tensor:
    torch.manual_seed(0)
    return torch.randn(3, 16, requires_grad=True)


def new_weights(seed: int) -> list[Tensor]:
    torch.manual_seed(seed)
    return [torch.randn(shape, requires_grad=True) for shape in ((16, 5), (5, 3))]


def loss_of(weights: Sequence[Tensor], x: Tensor, labels: Tensor = LABELS) -> Tensor:
    return cross_entropy(torch.tanh(x @ weights[0]) @ weights[1], labels)


def norm(gradients: Sequence[Tensor]) -> Tensor:
    return torch.cat([g.flatten() for g in gradients]).norm()


def distance(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> Tensor:
    return torch.stack([(a - b).square().sum() for a, b in zip(ours, theirs, strict=True)]).sum()


def matched(x: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """The loss of gradients by new weights, and the norm of the synthetic one."""
    weights = new_weights(seed)
    real = torch.autograd.grad(loss_of(weights, torch.ones(3, 16)), weights)
    ours = torch.autograd.grad(loss_of(weights, x), weights, create_graph=True)
    return distance(ours, real), norm(ours)


def one_step(x: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """The loss of a trajectory of one inner step, and the norm of its gradient."""
    weights, target = new_weights(seed), new_weights(seed + 10)
    ours = torch.autograd.grad(loss_of(weights, x), weights, create_graph=True)
    stepped = [w - 0.5 * g for w, g in zip(weights, ours, strict=True)]
    return distance(stepped, [t.detach() for t in target]), norm(ours)


@pytest.mark.parametrize(("profile", "loss"), [("gm", matched), ("tm", one_step)])
def test_every_update_by_hand_is_corrected_with_new_weights(profile: Any, loss: Loss) -> None:
    def updated(lam: float) -> Tensor:
        x = new_images()
        for seed in range(4):
            matching, difficulty = loss(x, seed)
            (gradient,) = torch.autograd.grad(matching + lam * difficulty, x)
            with torch.no_grad():
                x -= LR * gradient
        return x.detach()

    expected = updated(LAM)
    with inject(LAM, profile=profile) as record:
        found = updated(0.0)
    torch.testing.assert_close(found, expected)
    assert record.columns()["iteration"] == [0, 1, 2, 3]


@pytest.mark.parametrize("learnt", ["labels and images", "images and labels", "classes"])
def test_tensors_asked_for_one_after_the_other_are_corrected_once(learnt: str) -> None:
    def gradients(lam: float) -> list[Tensor]:
        x, labels = new_images(), torch.eye(3, requires_grad=True)
        rows = [row.clone().detach().requires_grad_() for row in x]
        tensors = {"classes": rows, "images and labels": [x, labels]}.get(learnt, [labels, x])
        weights = new_weights(1)
        batch = torch.stack(rows) if learnt == "classes" else x
        loss = loss_of(weights, batch, labels.softmax(1))
        ours = torch.autograd.grad(loss, weights, create_graph=True)
        matching = distance(ours, weights) + lam * norm(ours)
        return [torch.autograd.grad(matching, t, retain_graph=True)[0] for t in tensors]

    expected = gradients(LAM)
    with inject(LAM, profile="gm") as record:
        found = gradients(0.0)
    torch.testing.assert_close(found, expected)
    assert record.columns()["captured"] == [1]


@pytest.mark.parametrize("changed", ["divided", "cleared"])
@pytest.mark.filterwarnings("ignore:Using backward")
def test_gradients_may_be_changed_in_place(changed: str) -> None:
    def gradient(lam: float) -> Tensor:
        x, net = new_images(), torch.nn.Sequential(torch.nn.Linear(16, 5), torch.nn.Linear(5, 3))
        parameters = [*net.parameters()]
        with torch.no_grad():
            for k, parameter in enumerate(parameters):
                parameter.copy_(torch.linspace(-1, k + 1, parameter.numel()).view_as(parameter))
        loss = cross_entropy(net(x), LABELS)
        if changed == "cleared":
            loss.backward(create_graph=True)
            ours = [p.grad.clone() for p in parameters]
            net.zero_grad(set_to_none=False)
            x.grad = None
        else:
            ours = [*torch.autograd.grad(loss, parameters, create_graph=True)]
        difficulty = norm([g.clone() for g in ours])
        if changed == "divided":
            for g in ours:
                g.div_(7)
        matching = torch.stack([(g - 0.1).square().sum() for g in ours]).sum()
        (matching + lam * difficulty).backward()
        return x.grad

    expected = gradient(LAM)
    with inject(LAM, profile="gm") as record:
        found = gradient(0.0)
    torch.testing.assert_close(found, expected)
    with inject(0.0, profile="gm") as observed:
        gradient(0.0)
    difficulties = [r.columns()["difficulty"] for r in (record, observed)]
    assert difficulties[0] == pytest.approx(difficulties[1])

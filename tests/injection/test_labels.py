"""Which integers of a loop that matches features are its labels."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from sdc_ext import inject
from sdc_ext.errors import InjectionError

pytestmark = pytest.mark.usefixtures("doubles")


def distil(ipc: int, logged: str, iterations: int = 3) -> list[float]:
    """Returns the difficulty of the images before each update, computed by hand."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(16, 5), nn.Tanh(), nn.Linear(5, 3))
    image_syn = torch.randn(3 * ipc, 16, requires_grad=True)
    label_syn = torch.arange(3).repeat_interleave(ipc)
    optimizer = torch.optim.SGD([image_syn], lr=0.5)
    difficulties = []
    for _ in range(iterations):
        loss = cross_entropy(net(image_syn.detach()), label_syn)
        gradients = torch.autograd.grad(loss, [*net.parameters()])
        difficulties.append(float(torch.cat([g.flatten() for g in gradients]).norm()))
        if logged == "before":
            predicted = torch.tensor([0, 2, 2]).repeat_interleave(ipc)
        features = net[1](net[0](image_syn))
        optimizer.zero_grad()
        features.square().sum().backward()
        optimizer.step()
        with torch.no_grad():
            if logged == "predictions":
                predicted = net(image_syn).argmax(1)
            if logged == "probabilities":
                probabilities = net(image_syn).softmax(1)
    assert logged != "predictions" or not torch.equal(predicted, label_syn)
    assert logged != "probabilities" or len(probabilities) == len(label_syn)
    return difficulties


@pytest.mark.parametrize("logged", ["nothing", "predictions", "probabilities"])
@pytest.mark.parametrize("ipc", [1, 2])
def test_labels_stay_what_they_were_whatever_a_loop_logs(ipc: int, logged: str) -> None:
    with inject(0.0, profile="dm") as record:
        expected = distil(ipc, logged)
    assert record.columns()["difficulty"] == pytest.approx(expected)


@pytest.mark.parametrize("ipc", [1, 2])
def test_integers_beside_the_labels_are_never_taken_silently(ipc: int) -> None:
    with (
        pytest.raises(InjectionError, match="2 integer tensors have the labels"),
        inject(0.1, profile="dm"),
    ):
        distil(ipc, "before")


def test_an_order_of_images_is_no_labels() -> None:
    images, net = torch.randn(6, 4, requires_grad=True), nn.Linear(4, 3)
    label_syn, order = torch.arange(3).repeat_interleave(2), torch.randperm(6)

    def gradient(lam: float) -> Tensor:
        loss = net(images).square().sum()
        if lam:
            by = torch.autograd.grad(
                cross_entropy(net(images), label_syn), [*net.parameters()], create_graph=True
            )
            loss = loss + lam * torch.cat([g.flatten() for g in by]).norm()
        return torch.autograd.grad(loss, images)[0]

    expected = gradient(0.3)
    with inject(0.3, profile="dm"):
        found = gradient(0.0)
    torch.testing.assert_close(found, expected)
    assert len(order) == len(label_syn)

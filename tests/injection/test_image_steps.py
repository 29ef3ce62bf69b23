"""A step is an image step, however many backward passes it takes."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from sdc_ext import LogRamp, inject, with_sdc
from sdc_ext.errors import InjectionError
from sdc_ext.injection import corrections

pytestmark = pytest.mark.usefixtures("doubles")

LABELS = torch.arange(3)


def new_images() -> Tensor:
    torch.manual_seed(0)
    return torch.randn(3, 1, 4, 4, requires_grad=True)


def new_network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 3))


def of_class(net: nn.Module, images: Tensor, c: int) -> tuple[Tensor, tuple[Tensor, ...]]:
    loss = cross_entropy(net(images[c : c + 1]), LABELS[c : c + 1])
    gradients = torch.autograd.grad(loss, [*net.parameters()], create_graph=True)
    return torch.stack([(g - 0.1).square().sum() for g in gradients]).sum(), gradients


def class_by_class(images: Tensor, way: str) -> list[float]:
    """Leaves the image gradient of the sum over classes, and returns their losses."""
    net = new_network()
    losses = [of_class(net, images, c)[0] for c in range(3)]
    if way == "summed":
        torch.stack(losses).sum().backward()
    elif way == "together":
        torch.autograd.backward(losses)
    else:
        for loss in losses:
            loss.backward()
    return [loss.item() for loss in losses]


WAYS = ["summed", "together", "one by one"]


def corrected(way: str, **options: Any) -> tuple[Tensor, Any, list[float]]:
    images = new_images()
    with inject(profile="gm", **options) as record:
        optimizer = torch.optim.SGD([images], lr=0.1)
        losses = class_by_class(images, way)
        gradient = images.grad.clone()
        optimizer.step()
    (row,) = record.steps
    return gradient, row, losses


@pytest.mark.parametrize("way", WAYS)
def test_classes_add_up_however_they_are_differentiated(way: str) -> None:
    expected, wanted, _ = corrected("summed", lam=0.3)
    gradient, row, losses = corrected(way, lam=0.3)
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-14)
    assert (row.iteration, row.captured, row.lam) == (0, 3, 0.3)
    assert row.difficulty == pytest.approx(wanted.difficulty, rel=1e-12)
    assert row.matching == pytest.approx(sum(losses), rel=1e-12)


@pytest.mark.parametrize("way", WAYS)
def test_the_share_is_that_of_the_image_step(way: str) -> None:
    images = new_images()
    class_by_class(images, way)
    matching = images.grad
    gradient, row, _ = corrected(way, lam=0.3)
    assert row.share == pytest.approx(float((gradient - matching).norm() / matching.norm()))


@pytest.mark.parametrize("way", WAYS)
def test_the_wrapper_corrects_classes_alike(way: str) -> None:
    expected, _, _ = corrected(way, lam=0.3)
    images, net = new_images(), new_network()
    match_loss = with_sdc(
        lambda gw: torch.stack([(g - 0.1).square().sum() for g in gw]).sum(), lam=0.3
    )
    for c in range(3):
        match_loss(of_class(net, images, c)[1]).backward()
    torch.testing.assert_close(images.grad, expected, rtol=1e-12, atol=1e-14)


def test_schedules_count_image_steps_and_not_passes() -> None:
    images = new_images()
    with inject(LogRamp(0.1, 0.4, 2), profile="tm") as record:
        optimizer = torch.optim.SGD([images], lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            class_by_class(images, "one by one")
            optimizer.step()
    assert record.columns()["iteration"] == [0, 1, 2]
    assert record.columns()["captured"] == [3, 3, 3]
    assert record.columns()["lam"] == pytest.approx([0.1, 0.2, 0.4])


@pytest.mark.parametrize(
    ("new", "lam", "told"),
    [
        ("networks", LogRamp(0.1, 0.4, 2), 0),
        ("images", LogRamp(0.1, 0.4, 2), 1),
        ("networks and images", LogRamp(0.1, 0.4, 2), 1),
        ("nothing", LogRamp(0.1, 0.4, 2), 1),
        ("nothing", 0.1, 0),
    ],
)
def test_a_schedule_that_does_not_go_on_is_told_once(
    new: str, lam: Any, told: int, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.setattr(corrections, "_MOST_AT_FIRST", 3)
    images, net = new_images(), new_network()
    with inject(lam, profile="gm") as record:
        optimizer = torch.optim.SGD([images], lr=0.1)
        for _ in range(8):
            if "images" in new:
                images = images.detach().clone().requires_grad_()
                optimizer = torch.optim.SGD([images], lr=0.1)
            if "networks" in new:
                net = new_network()
            optimizer.zero_grad()
            of_class(net, images, 0)[0].backward()
            optimizer.step()
    goes_on = new == "networks"
    assert record.columns()["iteration"] == (list(range(8)) if goes_on else [0] * 8)
    assert capsys.readouterr().err.count("3 image steps were iteration 0") == told


def test_cleared_gradients_end_an_image_step() -> None:
    images = new_images()
    with inject(0.3, profile="gm") as record:
        optimizer = torch.optim.SGD([images], lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            class_by_class(images, "summed")
    assert record.columns()["captured"] == [3, 3, 3]


def test_a_share_asked_for_is_that_of_the_passes_so_far() -> None:
    images = new_images()
    with inject(share=0.1, profile="gm") as record:
        optimizer = torch.optim.SGD([images], lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            class_by_class(images, "one by one")
            optimizer.step()
    first, second = record.steps
    _, whole, _ = corrected("summed", share=0.1)
    assert first.share * whole.lam == pytest.approx(0.1 * first.lam)
    assert second.lam == pytest.approx(whole.lam)


def optimizers_of(images: list[Tensor], held: str) -> list[torch.optim.Optimizer]:
    """The optimisers of three images, one for each of them, or for all, or none."""
    if held == "by hand":
        return []
    if held == "one by one":
        return [torch.optim.SGD([image], lr=0.1) for image in images]
    first = torch.optim.SGD([torch.zeros((), requires_grad=True)], lr=0.1)
    if held == "in a copy":
        first = copy.deepcopy(first)
        first.param_groups[0]["params"] = images
    else:
        first.add_param_group({"params": images})
    return [first]


@pytest.mark.parametrize("held", ["by hand", "in a copy", "in a further group", "one by one"])
def test_every_class_is_corrected_whatever_updates_it(held: str) -> None:
    images = [image[None].detach().requires_grad_() for image in new_images()]
    batch = torch.cat(images)
    loss, gradients = zip(*[of_class(new_network(), batch, c) for c in range(3)], strict=True)
    norms = torch.stack([torch.cat([g.flatten() for g in gs]).norm() for gs in gradients])
    expected = torch.autograd.grad(torch.stack(loss).sum() + 0.3 * norms.sum(), images)
    with inject(0.3, profile="gm"):
        optimizers, net = optimizers_of(images, held), new_network()
        losses = [of_class(net, torch.cat(images), c)[0] for c in range(3)]
        found = []
        for c, loss in enumerate(losses):
            loss.backward()
            found.append(images[c].grad.clone())
            if len(optimizers) == 3:
                optimizers[c].step()
        if len(optimizers) == 1:
            optimizers[0].step()
    torch.testing.assert_close(found, [*expected])


def test_gradients_that_no_loss_used_are_forgotten_with_the_next_image_step() -> None:
    images, net = new_images(), new_network()
    with inject(0.3, profile="gm") as record:
        for _ in range(2):
            losses = [of_class(net, images, c)[0] for c in range(3)]
            losses[0].backward()
        losses[1].backward()
        of_class(net, images, 0)[0].backward()
        losses[2].backward()  # too late
    assert [row.captured for row in record.steps] == [1, 1, 1, 1]


def test_a_term_for_other_images_does_not_count() -> None:
    images, others = new_images(), new_images()
    with inject(0.3, profile="gm"):
        optimizers = [torch.optim.SGD([tensor], lr=0.1) for tensor in (images, others)]
        class_by_class(images, "summed")
        optimizers[1].step()  # which has no gradient to make a step by
        others.grad = torch.ones_like(others)
        with pytest.raises(InjectionError, match="were updated without a correction"):
            optimizers[1].step()
        optimizers[0].step()


@pytest.mark.parametrize("other", ["before", "inside"])
def test_any_of_several_optimizers_of_the_images_makes_the_step(other: str) -> None:
    expected, _, _ = corrected("summed", lam=0.3)
    images = new_images()
    optimizers = [torch.optim.SGD([images], lr=0.1) for _ in range(1 + (other == "before"))]
    with inject(0.3, profile="gm") as record:
        if other == "inside":
            optimizers.append(torch.optim.Adam([images]))
            torch.optim.Adam([images])  # which is gone at once
        for optimizer in optimizers:
            optimizer.zero_grad()
            class_by_class(images, "one by one")
            if len(record.steps) == 1:
                torch.testing.assert_close(images.grad, expected)
            optimizer.step()
    assert record.columns()["captured"] == [3, 3]


def test_small_networks_with_kernels_are_no_images() -> None:
    images, updated = new_images(), []
    optimizer = torch.optim.SGD([images], lr=0.1)
    with inject(0.3, profile="gm") as record:
        net = nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.Flatten(), nn.Linear(8, 3))
        of_network = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            of_class(net, images, 0)[0].backward()
            optimizer.step()
            of_network.zero_grad()
            cross_entropy(net(images.detach()), LABELS).backward()
            of_network.step()
            updated += record.learnt
    assert [tensor.shape for tensor in updated] == [images.shape] * 2
    assert len(record.steps) == 2

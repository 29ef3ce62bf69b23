"""Loops that match features, with the profile dm, against computations by hand."""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sdc_ext import LogRamp, inject
from sdc_ext.errors import InjectionError

pytestmark = pytest.mark.usefixtures("doubles")

LABELS = torch.tensor([0, 0, 1, 1, 2, 2])
LAM = 0.7


class Net(nn.Module):
    """A classifier whose features are computed by a method of its own, as in DM's networks."""

    def __init__(self, norm: type[nn.Module] = nn.Identity, drop: float = 0.0) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 4, 3), norm(4), nn.Tanh(), nn.Dropout(drop), nn.Flatten()
        )
        self.classifier = nn.Linear(4 * 4 * 4, 3)

    def embed(self, images: Tensor) -> Tensor:
        return self.features(images)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images))


class WithFeatures(Net):
    """Returns its outputs and, in a list, its features, as CAFE's networks do."""

    def forward(self, images: Tensor) -> Any:
        features = self.features(images)
        return self.classifier(features), [features]


def by_class(net: Net, images: Tensor) -> list[Tensor]:
    return [net.embed(augmented(images[2 * c : 2 * c + 2])) for c in range(3)]


def at_once(net: Net, images: Tensor) -> list[Tensor]:
    batch = torch.cat([augmented(images[2 * c : 2 * c + 2]) for c in range(3)])
    return [*net.embed(batch).view(3, 2, -1)]


def whole(net: WithFeatures, images: Tensor) -> list[Tensor]:
    _, (features,) = net(augmented(images))
    return [*features.view(3, 2, -1)]


def layer_by_layer(net: Net, images: Tensor) -> list[Tensor]:
    features = augmented(images)
    for layer in net.features:
        features = layer(features)
    return [*features.view(3, 2, -1)]


def shuffled(net: Net, images: Tensor) -> list[Tensor]:
    order = torch.tensor([5, 0, 3, 1, 4, 2])
    features = net.embed(augmented(images[order]))
    return [features[LABELS[order] == c] for c in range(3)]


def augmented(images: Tensor) -> Tensor:
    """A nonlinear augmentation that mixes pixels, and leaves some out."""
    grid = F.affine_grid(
        torch.tensor([[[0.9, 0.3, 0.1], [-0.3, 0.9, 0.0]]]), [1, 1, 6, 6], align_corners=True
    )
    turned = F.grid_sample(images, grid.expand(len(images), -1, -1, -1), align_corners=True)
    return (turned * (torch.arange(6) != 2)).sin()


def distil(
    match: Callable[[Any, Tensor], list[Tensor]],
    make: Callable[[], nn.Module] = Net,
    lam: float = 0.0,
    steps: int = 3,
) -> tuple[list[Tensor], nn.Module]:
    """Matches mean features, as DM does; corrected by hand if lam is above 0."""
    torch.manual_seed(0)
    images = torch.rand(6, 1, 6, 6, requires_grad=True)
    label_syn = LABELS.clone()
    optimizer = torch.optim.SGD([images], lr=0.5)
    gradients = []
    for _ in range(steps):
        net = make().train()
        for parameter in net.parameters():
            parameter.requires_grad = False
        loss = torch.zeros(())
        for found in match(net, images):
            loss = loss + (torch.rand(found.shape[1]) - found.mean(0)).square().sum()
        if lam:
            copied = copy.deepcopy(net).requires_grad_()
            output = copied(augmented(images))
            logits = output[0] if isinstance(output, tuple) else output
            by = torch.autograd.grad(
                F.cross_entropy(logits, label_syn), [*copied.parameters()], create_graph=True
            )
            loss = loss + lam * torch.cat([g.flatten() for g in by]).norm()
        optimizer.zero_grad()
        loss.backward()
        assert images.grad is not None
        gradients.append(images.grad.clone())
        optimizer.step()
    return gradients, net


FORMS = [
    (by_class, Net),
    (at_once, Net),
    (whole, WithFeatures),
    (layer_by_layer, Net),
    (shuffled, Net),
    (at_once, lambda: Net(nn.BatchNorm2d)),
]


@pytest.mark.parametrize(("match", "make"), FORMS)
def test_the_term_is_that_of_a_computation_by_hand(match: Any, make: Any) -> None:
    plain, _ = distil(match, make)
    expected, _ = distil(match, make, LAM)
    with inject(LAM, profile="dm") as record:
        found, _ = distil(match, make)
    effect = (expected[0] - plain[0]).norm()
    assert effect > 1e-4
    for ours, hand in zip(found, expected, strict=True):
        assert (ours - hand).norm() < 1e-9 * effect
    assert record.columns()["captured"] == [1, 1, 1]
    assert record.columns()["iteration"] == [0, 1, 2]


@pytest.mark.parametrize("match", [by_class, at_once])
@pytest.mark.parametrize("make", [lambda: Net(nn.BatchNorm2d), lambda: Net(drop=0.5)])
def test_lam_0_changes_nothing_and_records_the_difficulty(match: Any, make: Any) -> None:
    plain, net = distil(match, make)
    with inject(0, profile="dm") as record:
        found, observed = distil(match, make)
    assert all(torch.equal(a, b) for a, b in zip(found, plain, strict=True))
    for a, b in zip(observed.state_dict().values(), net.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert all(value > 0 for value in record.columns()["difficulty"])


def test_a_share_is_exact_in_the_first_step() -> None:
    plain, _ = distil(by_class)
    with inject(share=0.2, profile="dm") as record:
        found, _ = distil(by_class)
    assert (found[0] - plain[0]).norm() / plain[0].norm() == pytest.approx(0.2)
    assert record.columns()["share"][0] == pytest.approx(0.2)


def test_ramps_count_image_steps() -> None:
    with inject(LogRamp(0.1, 0.4, 2), profile="dm") as record:
        distil(by_class)
    assert record.columns()["lam"] == pytest.approx([0.1, 0.2, 0.4])


def test_hooks_of_the_loop_run_once() -> None:
    calls = []

    def hooked(net: Net, images: Tensor) -> list[Tensor]:
        net.features[2].register_forward_hook(lambda *_: calls.append(1))
        return at_once(net, images)

    with inject(LAM, profile="dm"):
        distil(hooked)
    assert len(calls) == 3


def test_several_networks_add_up() -> None:
    def both(nets: Any, images: Tensor) -> list[Tensor]:
        return [part for net in nets for part in at_once(net, images)]

    def pair() -> nn.ModuleList:
        return nn.ModuleList([Net(), Net()])

    plain, _ = distil(both, pair, steps=1)
    with inject(LAM, profile="dm") as record:
        found, nets = distil(both, pair, steps=1)
    torch.manual_seed(0)
    images = torch.rand(6, 1, 6, 6, requires_grad=True)
    term = torch.zeros(())
    for net in copy.deepcopy(nets).requires_grad_():  # type: ignore[union-attr]
        loss = F.cross_entropy(net(augmented(images)), LABELS)
        by = torch.autograd.grad(loss, [*net.parameters()], create_graph=True)
        term = term + LAM * torch.cat([g.flatten() for g in by]).norm()
    torch.testing.assert_close(found[0] - plain[0], torch.autograd.grad(term, images)[0])
    assert record.columns()["captured"] == [2]


class Stored:
    """Keeps images and labels together; an image holds several smaller ones, as IDC's does."""

    def __init__(self) -> None:
        self.data = torch.rand(3, 1, 12, 12, requires_grad=True)
        self.targets = torch.tensor([2, 0, 1])

    def decoded(self) -> tuple[Tensor, Tensor]:
        parts = [p for rows in self.data.split(6, 2) for p in rows.split(6, 3)]
        return torch.cat(parts), self.targets.repeat(4)


def distil_stored(lam: float = 0.0) -> Tensor:
    torch.manual_seed(0)
    stored, net = Stored(), Net()
    optimizer = torch.optim.Adam([stored.data], lr=0.1)
    batch, labels = stored.decoded()
    loss = net.embed(batch).mean(0).square().sum()
    if lam:
        by = torch.autograd.grad(
            F.cross_entropy(net(batch), labels), [*net.parameters()], create_graph=True
        )
        loss = loss + lam * torch.cat([g.flatten() for g in by]).norm()
    loss.backward()
    optimizer.step()
    assert stored.data.grad is not None
    return stored.data.grad


def test_labels_follow_images_that_hold_several() -> None:
    expected = distil_stored(LAM)
    with inject(LAM, profile="dm"):
        found = distil_stored()
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-14)


def test_what_the_loss_does_not_depend_on_does_not_count() -> None:
    def watched(net: Net, images: Tensor) -> list[Tensor]:
        batch = torch.cat([augmented(images[2 * c : 2 * c + 2]) for c in range(3)])
        assert F.cross_entropy(Net()(batch), LABELS).item() > 0  # a metric
        return [*net.embed(batch).view(3, 2, -1)]

    with inject(LAM, profile="dm") as record:
        distil(watched)
    assert record.columns()["captured"] == [1, 1, 1]


def test_gradients_by_weights_alone_are_no_image_step() -> None:
    images, net = torch.rand(6, 1, 6, 6, requires_grad=True), Net()
    label_syn = LABELS.clone()
    with inject(LAM, profile="dm") as record:
        torch.autograd.grad(F.cross_entropy(net(images), label_syn), [*net.parameters()])
        net(images).square().sum().backward()
    assert record.columns()["captured"] == [1]


def test_networks_are_taken_as_they_were_called() -> None:
    def evaluated(net: Net, images: Tensor) -> list[Tensor]:
        batch = torch.cat([augmented(images[2 * c : 2 * c + 2]) for c in range(3)])
        kept: list[Tensor] = []
        net.features[0].register_forward_hook(lambda *found: kept.append(found[2]))
        net.register_forward_hook(kept.append)  # holds activations, which cannot be copied
        features = net.features(input=batch)
        net.eval()
        return [*features.view(3, 2, -1)]

    expected, _ = distil(at_once, lambda: Net(nn.BatchNorm2d), LAM)
    with inject(LAM, profile="dm"):
        found, _ = distil(evaluated, lambda: Net(nn.BatchNorm2d))
    torch.testing.assert_close(found[0], expected[0], rtol=1e-10, atol=1e-13)


def mixed(net: Net, images: Tensor) -> list[Tensor]:
    return [net.embed(0.5 * images + 0.5 * images.flip(0))]


def features_only(net: Net, images: Tensor) -> list[Tensor]:
    return [net(images).flatten(1)]


@pytest.mark.parametrize(
    ("match", "make", "message"),
    [
        (mixed, Net, "its images are made from several classes, or from none: wrap the matching"),
        (
            features_only,
            lambda: nn.Conv2d(1, 3, 3),
            "Conv2d does not return one output with one number",
        ),
        (
            features_only,
            lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 8)),
            "Sequential does not return one output with one number for each of 3 classes",
        ),
    ],
)
def test_a_batch_without_a_difficulty_is_an_error(match: Any, make: Any, message: str) -> None:
    with pytest.raises(InjectionError, match=re.escape(message)), inject(LAM, profile="dm"):
        distil(match, make)


def test_weights_of_others_are_an_error() -> None:
    images, net = torch.rand(6, 1, 6, 6, requires_grad=True), Net()
    label_syn = LABELS.clone()
    others = {name: torch.rand_like(p) for name, p in net.named_parameters()}
    with (
        pytest.raises(InjectionError, match="called with weights that are not its own"),
        inject(LAM, profile="dm"),
    ):
        torch.func.functional_call(net, others, (images,)).square().sum().backward()
    assert len(label_syn) == len(images)


def test_soft_labels_are_no_reason_to_take_other_integers() -> None:
    images, net = torch.rand(6, 1, 6, 6, requires_grad=True), Net()
    soft, drawn = torch.eye(3)[LABELS], LABELS.flip(0)
    with (
        pytest.raises(InjectionError, match="no integer tensor has the labels"),
        inject(LAM, profile="dm"),
    ):
        net.embed(images).square().sum().backward()
    assert len(soft) == len(drawn)


class Wrapped(nn.Module):
    """Holds a network beside another, and returns what none of them does."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net, self.other = net, nn.Linear(3, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.other(self.net(images))


def test_the_network_is_the_smallest_that_classifies() -> None:
    images = torch.rand(6, 1, 6, 6, requires_grad=True)
    label_syn = LABELS.clone()
    model = Wrapped(Net())
    by = torch.autograd.grad(
        F.cross_entropy(model.net(images), label_syn), [*model.net.parameters()]
    )
    with inject(LAM, profile="dm") as record:
        model.net.embed(images).square().sum().backward()
    expected = torch.cat([g.flatten() for g in by]).norm()
    assert record.steps[0].difficulty == pytest.approx(float(expected))


class Drops(Net):
    """Draws from Python's and numpy's generators, as stochastic depth does."""

    def forward(self, images: Tensor) -> Tensor:
        scale = random.random() + np.random.rand()
        return super().forward(images) * scale


def test_random_numbers_of_all_kinds_stay() -> None:
    random.seed(0)
    np.random.seed(0)
    before = random.getstate(), np.random.get_state()[1].tolist()
    with inject(0, profile="dm"):
        distil(at_once, Drops)
    assert before == (random.getstate(), np.random.get_state()[1].tolist())


def test_a_pass_by_weights_leaves_the_images_to_the_next() -> None:
    images, net = torch.rand(6, 1, 6, 6, requires_grad=True), Net()
    label_syn = LABELS.clone()
    with inject(LAM, profile="dm") as record:
        loss = net(images).square().sum()
        torch.autograd.grad(loss, [*net.parameters()], retain_graph=True)
        torch.autograd.grad(loss, images)
    assert record.columns()["captured"] == [1]
    assert len(label_syn) == len(images)


def test_features_that_a_hook_keeps_count() -> None:
    def by_hook(net: Net, images: Tensor) -> list[Tensor]:
        kept: list[Tensor] = []
        batch = torch.cat([augmented(images[2 * c : 2 * c + 2]) for c in range(3)])
        net.features[4].register_forward_hook(lambda *found: kept.append(found[2]))
        net(batch)
        return [*kept[0].view(3, 2, -1)]

    expected, _ = distil(at_once, Net, LAM)
    with inject(LAM, profile="dm"):
        found, _ = distil(by_hook)
    torch.testing.assert_close(found[0], expected[0], rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("profile", ["dm", "gm"])
def test_backward_passes_may_be_asked_for_without_gradients(profile: Any) -> None:
    images, net = torch.rand(6, 1, 6, 6, requires_grad=True), Net()
    label_syn = LABELS.clone()
    with inject(LAM, profile=profile) as record:
        loss = F.cross_entropy(net(images), label_syn)
        if profile == "gm":
            by = torch.autograd.grad(loss, [*net.parameters()], create_graph=True)
            loss = sum(g.square().sum() for g in by)
        with torch.no_grad():
            loss.backward()
    assert record.columns()["captured"] == [1]


def test_images_in_several_tensors_are_an_error() -> None:
    parts = [torch.rand(2, 1, 6, 6, requires_grad=True) for _ in range(3)]
    with (
        pytest.raises(InjectionError, match="made from 3 learnt tensors, where one has labels"),
        inject(LAM, profile="dm"),
    ):
        Net().embed(torch.cat(parts)).square().sum().backward()


@pytest.mark.parametrize(
    ("candidates", "message"),
    [
        ([], "no integer tensor has the labels of the 3 synthetic images"),
        ([[0, 1, 2], [2, 1, 0]], "2 integer tensors have the labels of the 3 synthetic images"),
    ],
)
def test_labels_out_of_sight_are_an_error(candidates: list[Any], message: str) -> None:
    def loop() -> None:
        first, second = [*map(torch.tensor, candidates), None, None][:2]
        images, net = torch.rand(3, 1, 6, 6, requires_grad=True), Net()
        net.embed(images).square().sum().backward()
        assert first is not None or second is None

    with pytest.raises(InjectionError, match=message), inject(LAM, profile="dm"):
        loop()


def test_the_error_of_a_loop_that_captures_gradients_names_its_profile() -> None:
    images, net = torch.rand(6, 1, 6, 6, requires_grad=True), Net()
    loss = F.cross_entropy(net(images), LABELS)
    with (
        pytest.raises(InjectionError, match="use the profile 'gm'"),
        inject(LAM, profile="dm"),
    ):
        gradient = torch.autograd.grad(loss, [*net.parameters()], create_graph=True)
        gradient[0].square().sum().backward()


def test_networks_that_are_also_called_together_are_two() -> None:
    def both(nets: Any, images: Tensor) -> list[Tensor]:
        together = Together(nets)
        batch = torch.cat([augmented(images[2 * c : 2 * c + 2]) for c in range(3)])
        return [*together.nets[0].embed(batch).view(3, 2, -1), together.nets[1].embed(batch)]

    with inject(LAM, profile="dm") as record:
        distil(both, lambda: nn.ModuleList([Net(), Net()]), steps=1)
    assert record.columns()["captured"] == [2]


class Together(nn.Module):
    """The mean of several networks."""

    def __init__(self, nets: nn.ModuleList) -> None:
        super().__init__()
        self.nets = nets

    def forward(self, images: Tensor) -> Tensor:
        return torch.stack([net(images) for net in self.nets]).mean(0)


def test_a_loop_that_calls_no_network_says_so() -> None:
    with (
        pytest.raises(InjectionError, match="a network's output for synthetic images: wrap the"),
        inject(LAM, profile="dm"),
    ):
        torch.rand(3, requires_grad=True).sum().backward()


@pytest.mark.parametrize("held", [False, True])
def test_classes_that_are_differentiated_one_by_one_are_all_corrected(held: bool) -> None:
    images = torch.randn(6, 1, 6, 6, requires_grad=True)
    net, labels = Net(), LABELS
    parameters = [*net.parameters()]
    losses, norms = [], []
    for c, features in enumerate(by_class(net, images)):
        losses.append((features.mean(0) - 0.1).square().sum())
        rows = slice(2 * c, 2 * c + 2)
        loss = F.cross_entropy(net(augmented(images[rows])), labels[rows])
        gradients = torch.autograd.grad(loss, parameters, create_graph=True)
        norms.append(torch.cat([g.flatten() for g in gradients]).norm())
    total = torch.stack(losses).sum() + LAM * torch.stack(norms).sum()
    (expected,) = torch.autograd.grad(total, images)
    with inject(LAM, profile="dm"):
        optimizers = [torch.optim.SGD([images], lr=0.0)] if held else []
        features = [net.embed(augmented(1 * images[2 * c : 2 * c + 2])) for c in range(3)]
        losses = [(f.mean(0) - 0.1).square().sum() for f in features]
        for loss in losses:
            loss.backward()
            for optimizer in optimizers:  # it ends an image step, and changes nothing
                optimizer.step()
    torch.testing.assert_close(images.grad, expected)

"""What is learnt may be anything: the term goes to whatever the corrected loss flows to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate

from sdc_ext import LogRamp, inject
from sdc_ext.errors import DivergenceError, InjectionError

pytestmark = pytest.mark.usefixtures("doubles")

LABELS = torch.arange(3)


@dataclass
class Source:
    """Learnt tensors, and the images (3, 1, 4, 4) that they make."""

    learnt: list[Tensor]
    images: Callable[[], Tensor]


def decoder() -> Source:
    """A small network of its own makes all images from coordinates."""
    net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 16), nn.Tanh())
    codes = torch.eye(3)
    return Source([*net.parameters()], lambda: net(codes).view(3, 1, 4, 4))


def decoders() -> Source:
    """One network per image, and an optimiser for all of them."""
    nets = [nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1)) for _ in range(3)]
    grid = torch.cartesian_prod(torch.linspace(-1, 1, 4), torch.linspace(-1, 1, 4))
    return Source(
        [p for net in nets for p in net.parameters()],
        lambda: torch.stack([net(grid).view(1, 4, 4) for net in nets]),
    )


def factors() -> Source:
    """Bases through a learnt convolution, as where images are factorised."""
    bases = torch.randn(3, 2, 4, 4, requires_grad=True)
    style = nn.Conv2d(2, 1, 3, padding=1)
    return Source([bases, *style.parameters()], lambda: torch.tanh(style(bases)))


def latents() -> Source:
    """Latent codes through a generator that is not trained, although it could be."""
    generator = nn.Sequential(nn.Linear(5, 16), nn.Tanh())
    codes = torch.randn(3, 5, requires_grad=True)
    return Source([codes], lambda: generator(codes).view(3, 1, 4, 4))


def vectors() -> Source:
    """One code per image, each a tensor of a single dimension."""
    generator = nn.Linear(5, 16).requires_grad_(False)
    codes = [torch.randn(5, requires_grad=True) for _ in range(3)]
    return Source(codes, lambda: torch.tanh(generator(torch.stack(codes))).view(3, 1, 4, 4))


def pixels() -> Source:
    """Small images that are enlarged before the network sees them."""
    small = torch.randn(3, 1, 2, 2, requires_grad=True)
    return Source([small], lambda: interpolate(small, scale_factor=2, mode="bilinear"))


SOURCES = [decoder, decoders, factors, latents, vectors, pixels]


def inner_loss(images: Tensor, flat: Tensor) -> Tensor:
    return cross_entropy(torch.tanh(images.flatten(1)) @ flat.view(16, 3), LABELS)


def module_matching(images: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The loss of one network, and the norms of its gradients, class by class."""
    torch.manual_seed(1)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 5), nn.Tanh(), nn.Linear(5, 3))
    total, norms = torch.zeros(()), []
    for c in range(3):
        loss = cross_entropy(net(images[c : c + 1]), LABELS[c : c + 1])
        gradients = torch.autograd.grad(loss, [*net.parameters()], create_graph=True)
        norms.append(torch.cat([g.flatten() for g in gradients]).norm())
        total = total + sum((g - 0.1).square().sum() for g in gradients)
    return total, norms


def trajectory(images: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The loss of an unrolled inner loop, and the norms of its gradients."""
    torch.manual_seed(1)
    weights, norms = torch.randn(48, requires_grad=True), []
    for _ in range(3):
        (g,) = torch.autograd.grad(inner_loss(images, weights), weights, create_graph=True)
        norms.append(g.norm())
        weights = weights - 0.5 * g
    return (weights - 1).square().sum(), norms


LOOPS: dict[str, Any] = {"gm": module_matching, "tm": trajectory}


def corrected_by_hand(source: Source, profile: str, lam: float) -> Sequence[Tensor]:
    loss, norms = LOOPS[profile](source.images())
    together = torch.stack(norms)
    term = together.sum() if profile == "gm" else together.mean()
    return torch.autograd.grad(loss + lam * term, source.learnt)


@pytest.mark.parametrize("make", SOURCES)
@pytest.mark.parametrize("profile", LOOPS)
@pytest.mark.parametrize("way", ["backward", "asked", "two optimisers"])
def test_the_term_goes_to_whatever_is_learnt(
    make: Callable[[], Source], profile: Any, way: str
) -> None:
    source = make()
    expected = corrected_by_hand(source, profile, 0.3)
    parts = [source.learnt[:1], source.learnt[1:]] if way == "two optimisers" else [source.learnt]
    with inject(0.3, profile=profile) as record:
        optimizers = [torch.optim.SGD(part, lr=0.1) for part in parts if part]
        loss, _ = LOOPS[profile](source.images())
        if way == "asked":
            gradients = torch.autograd.grad(loss, source.learnt)
            for tensor, gradient in zip(source.learnt, gradients, strict=True):
                tensor.grad = gradient
        else:
            loss.backward()
        found = [tensor.grad.clone() for tensor in source.learnt]
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(found, list(expected), rtol=1e-9, atol=1e-12)
    (step,) = record.steps
    assert step.captured == 3
    assert step.share > 0
    assert len(record.learnt) == len(source.learnt)


@pytest.mark.parametrize("make", SOURCES)
@pytest.mark.parametrize("profile", LOOPS)
def test_without_weight_nothing_changes(make: Callable[[], Source], profile: Any) -> None:
    def learnt(lam: float | None) -> list[Tensor]:
        torch.manual_seed(0)
        source = make()

        def loop() -> None:
            optimizer = torch.optim.Adam(source.learnt, lr=0.1)
            for _ in range(3):
                optimizer.zero_grad()
                LOOPS[profile](source.images())[0].backward()
                optimizer.step()

        if lam is None:
            loop()
        else:
            with inject(lam, profile=profile) as record:
                loop()
            assert len(record.steps) == 3
        return source.learnt

    assert all(map(torch.equal, learnt(None), learnt(0.0)))


@pytest.mark.parametrize("make", SOURCES)
def test_a_gradient_that_is_not_finite_stops_the_run(make: Callable[[], Source]) -> None:
    source = make()
    before = [tensor.detach().clone() for tensor in source.learnt]
    with pytest.raises(DivergenceError, match="NaN or infinite"), inject(0.3, profile="gm"):
        optimizer = torch.optim.SGD(source.learnt, lr=0.1)
        module_matching(source.images())[0].backward()
        source.learnt[-1].grad[0] = torch.nan
        optimizer.step()
    assert all(map(torch.equal, source.learnt, before))


def test_a_learning_rate_that_is_not_finite_stops_the_run() -> None:
    source, rate = pixels(), torch.tensor(0.5, requires_grad=True)
    with pytest.raises(DivergenceError, match="NaN or infinite"), inject(0.3, profile="tm"):
        optimizer = torch.optim.SGD([rate], lr=0.1)
        (trajectory(source.images())[0] * rate).backward()
        rate.grad.fill_(torch.inf)
        optimizer.step()
    assert rate == 0.5


def test_networks_that_only_the_loss_depends_on_are_not_learnt() -> None:
    """As a network that is trained to tell images apart, and steps more often."""
    source, other = factors(), nn.Linear(16, 1)
    with inject(0.3, profile="gm") as record:
        optimizer = torch.optim.SGD(source.learnt, lr=0.1)
        for_other = torch.optim.SGD(other.parameters(), lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            images = source.images()
            (module_matching(images)[0] + other(images.flatten(1)).sum()).backward()
            optimizer.step()
            for _ in range(2):
                for_other.zero_grad()
                other(source.images().detach().flatten(1)).square().sum().backward()
                for_other.step()
    assert record.columns()["captured"] == [3, 3]
    assert len(record.learnt) == len(source.learnt)


def test_what_was_learnt_last_is_kept() -> None:
    source = factors()
    with inject(0.3, profile="gm") as record:
        optimizer = torch.optim.SGD(source.learnt, lr=0.1)
        for _ in range(2):
            before = [tensor.detach().clone() for tensor in source.learnt]
            optimizer.zero_grad()
            module_matching(source.images())[0].backward()
            optimizer.step()
    assert all(map(torch.equal, record.learnt, before))
    assert torch.equal(record.images, before[0])


def test_a_new_decoder_starts_the_schedule_again() -> None:
    with inject(LogRamp(0.1, 0.4, 2), profile="tm") as record:
        for _ in range(2):
            source = decoder()
            optimizer = torch.optim.SGD(source.learnt, lr=0.1)
            for _ in range(3):
                optimizer.zero_grad()
                trajectory(source.images())[0].backward()
                optimizer.step()
    assert record.columns()["iteration"] == [0, 1, 2] * 2
    assert record.columns()["lam"] == pytest.approx([0.1, 0.2, 0.4] * 2)


def test_gradients_of_the_last_layer_on_real_images_do_not_count() -> None:
    source = pixels()
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 5), nn.Tanh(), nn.Linear(5, 3))

    def gradients(images: Tensor) -> tuple[Tensor, ...]:
        last = [*net[3].parameters()]
        return torch.autograd.grad(cross_entropy(net(images), LABELS), last, create_graph=True)

    with inject(0.3, profile="gm") as record:
        torch.optim.SGD(source.learnt, lr=0.1)
        real, synthetic = gradients(torch.ones(3, 1, 4, 4)), gradients(source.images())
        sum((r - s).square().sum() for r, s in zip(real, synthetic, strict=True)).backward()
    assert [step.captured for step in record.steps] == [1]


def test_updates_without_a_term_are_said_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    codes = torch.randn(3, 5, requires_grad=True)
    with pytest.raises(InjectionError, match="nothing was corrected"), inject(0.3, profile="gm"):
        optimizer = torch.optim.SGD([codes], lr=0.1)
        told = []
        for _ in range(3):
            codes.square().sum().backward()
            optimizer.step()
            told.append(capsys.readouterr().err)
    described = "sdc-ext: an optimiser's tensors, 1 with the first of shape (3, 5), were updated"
    assert told[0].startswith(described)
    assert told[0].count("\n") == 1
    assert told[1:] == ["", ""]


def test_a_script_that_exits_well_without_a_correction_is_an_error() -> None:
    source = decoder()
    with pytest.raises(InjectionError, match="nothing was corrected"), inject(0.3, profile="gm"):
        optimizer = torch.optim.SGD(source.learnt, lr=0.1)
        source.images().square().sum().backward()
        optimizer.step()
        raise SystemExit(0)


class Critic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv2d(1, 2, 3), nn.Linear(8, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(torch.tanh(self.conv(images)).flatten(1))


def interpolated(critic: Critic) -> Tensor:
    real, fake = torch.randn(3, 1, 4, 4), nn.Linear(2, 16)(torch.randn(3, 2)).view(3, 1, 4, 4)
    mixed = (0.3 * real + 0.7 * fake.detach()).requires_grad_()
    (g,) = torch.autograd.grad(critic(mixed).sum(), mixed, create_graph=True)
    return (g.flatten(1).norm(dim=1) - 1).square().mean()


def interpolated_with_a_graph(critic: Critic) -> Tensor:
    real = torch.randn(3, 1, 4, 4, requires_grad=True)
    mixed = 0.3 * real + 0.7 * torch.randn(3, 1, 4, 4)
    (g,) = torch.autograd.grad(critic(mixed).sum(), mixed, create_graph=True)
    return g.square().sum()


def on_real_images(critic: Critic) -> Tensor:
    real = torch.randn(3, 1, 4, 4, requires_grad=True)
    out = critic(real)
    (g,) = torch.autograd.grad(out, real, torch.ones_like(out), create_graph=True)
    return out.mean() + g.square().sum()


def with_conditions(critic: Critic) -> Tensor:
    real, condition = torch.randn(3, 1, 4, 4).requires_grad_(), torch.randn(3, 1).requires_grad_()
    out = (critic(real) * condition).sum()
    gradients = torch.autograd.grad(out, [real, condition], create_graph=True)
    return sum(g.square().sum() for g in gradients)


def dummy_weight(critic: Critic) -> Tensor:
    dummy = nn.Parameter(torch.ones(1))
    loss = (critic(torch.randn(3, 1, 4, 4)) * dummy).square().mean()
    (g,) = torch.autograd.grad(loss, [dummy], create_graph=True)
    return loss + g.square().sum()


def own_weights(critic: Critic) -> Tensor:
    loss = critic(torch.randn(3, 1, 4, 4)).square().mean()
    gradients = torch.autograd.grad(loss, [*critic.parameters()], create_graph=True)
    return loss + sum(g.square().sum() for g in gradients)


def last_layer(critic: Critic) -> Tensor:
    loss = critic(torch.randn(3, 1, 4, 4)).square().mean()
    gradients = torch.autograd.grad(loss, [*critic.last.parameters()], create_graph=True)
    return loss + sum(g.square().sum() for g in gradients)


def adapted(critic: Critic) -> Tensor:
    weight, bias = critic.last.parameters()
    features = torch.tanh(critic.conv(torch.randn(3, 1, 4, 4))).flatten(1)
    for _ in range(2):
        loss = (features @ weight.T + bias).square().mean()
        by_weight, by_bias = torch.autograd.grad(loss, [weight, bias], create_graph=True)
        weight, bias = weight - 0.1 * by_weight, bias - 0.1 * by_bias
    return (features @ weight.T + bias).square().mean()


def every_leaf(critic: Critic) -> Tensor:
    loss = critic(torch.randn(3, 1, 4, 4)).square().mean()
    loss.backward(create_graph=True)
    return sum(p.grad.square().sum() for p in critic.parameters())


@pytest.mark.parametrize(
    "penalty",
    [
        interpolated,
        interpolated_with_a_graph,
        on_real_images,
        with_conditions,
        dummy_weight,
        own_weights,
        last_layer,
        adapted,
        every_leaf,
    ],
)
@pytest.mark.parametrize("profile", LOOPS)
@pytest.mark.filterwarnings("ignore:Using backward")
def test_training_with_gradients_of_gradients_is_left_alone(
    penalty: Callable[[Critic], Tensor], profile: Any
) -> None:
    def trained(injected: bool) -> list[Tensor]:
        torch.manual_seed(0)
        critic = Critic()

        def loop() -> None:
            optimizer = torch.optim.Adam(critic.parameters(), lr=0.1)
            for _ in range(2):
                loss = penalty(critic)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

        if injected:
            with (
                pytest.raises(InjectionError, match="nothing was corrected"),
                inject(1.0, profile=profile),
            ):
                loop()
        else:
            loop()
        return [*critic.parameters()]

    assert all(map(torch.equal, trained(False), trained(True)))

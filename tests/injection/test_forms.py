"""The many ways in which people write a matching loop, each against a computation by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import grad as early_grad
from torch.func import functional_call, grad_and_value
from torch.func import grad as early_func_grad
from torch.nn.functional import cross_entropy

from sdc_ext import inject
from sdc_ext.errors import InjectionError

pytestmark = pytest.mark.usefixtures("doubles")

LABELS = torch.arange(3)
LAM = 0.3


def images() -> Tensor:
    torch.manual_seed(0)
    return torch.randn(3, 1, 4, 4, requires_grad=True)


def network(seed: int = 1) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 5), nn.Tanh(), nn.Linear(5, 3))


def loss_of(net: nn.Module, params: dict[str, Tensor], x: Tensor) -> Tensor:
    return cross_entropy(functional_call(net, params, (x,)), LABELS)


def distance(tensors: Sequence[Tensor]) -> Tensor:
    return torch.stack([(t - 0.1).square().sum() for t in tensors]).sum()


def norm(gradients: Sequence[Tensor]) -> Tensor:
    return torch.cat([g.flatten() for g in gradients]).norm()


def unrolled(net: nn.Module, x: Tensor, steps: int = 3) -> tuple[Tensor, list[Tensor]]:
    """The loss of an unrolled inner loop, and the norms of its gradients."""
    names, values = zip(*net.named_parameters(), strict=True)
    params, norms = [value.detach().requires_grad_() for value in values], []
    for _ in range(steps):
        loss = loss_of(net, dict(zip(names, params, strict=True)), x)
        gradients = torch.autograd.grad(loss, params, create_graph=True)
        norms.append(norm(gradients))
        params = [p - 0.5 * g for p, g in zip(params, gradients, strict=True)]
    return distance(params), norms


def unrolled_by_hand(x: Tensor, steps: int = 3) -> Tensor:
    loss, norms = unrolled(network(), x, steps)
    return torch.autograd.grad(loss + LAM * torch.stack(norms).mean(), x)[0]


def matched(net: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    loss = cross_entropy(net(x), LABELS)
    gradients = torch.autograd.grad(loss, [*net.parameters()], create_graph=True)
    return distance(gradients), norm(gradients)


def matched_by_hand(x: Tensor, *nets: nn.Module) -> Tensor:
    parts = [matched(net, x) for net in nets or [network()]]
    total = torch.stack([loss + LAM * norm for loss, norm in parts]).sum()
    return torch.autograd.grad(total, x)[0]


def check(
    profile: Any, expected: Tensor, loop: Callable[[Tensor], None], *, captured: int, **options: Any
) -> None:
    """Runs a loop of one image step that leaves its image gradient."""
    plain = images()
    loop(plain)
    x = images()
    with inject(0.0, profile=profile, **options):
        optimizer = torch.optim.SGD([x], lr=0.1)
        loop(x)
        assert torch.equal(x.grad, plain.grad)
        optimizer.step()
    x = images()
    with inject(LAM, profile=profile, **options) as record:
        optimizer = torch.optim.SGD([x], lr=0.1)
        loop(x)
        torch.testing.assert_close(x.grad, expected, rtol=1e-9, atol=1e-12)
        optimizer.step()
    assert record.columns()["captured"] == [captured]


def test_lists_that_functional_calls_advance() -> None:
    def loop(x: Tensor) -> None:
        unrolled(network(), x)[0].backward()

    check("tm", unrolled_by_hand(images()), loop, captured=3)


@pytest.mark.parametrize("grad", [torch.func.grad, early_func_grad])
@pytest.mark.parametrize("leaves", [False, True])
def test_functions_that_return_gradients_of_dictionaries(grad: Any, leaves: bool) -> None:
    def loop(x: Tensor) -> None:
        net = network()
        params = {name: p.detach().requires_grad_(leaves) for name, p in net.named_parameters()}
        step = grad(lambda values: loss_of(net, values, x))
        for _ in range(3):
            gradients = step(params)
            params = {name: p - 0.5 * gradients[name] for name, p in params.items()}
        distance([*params.values()]).backward()

    check("tm", unrolled_by_hand(images()), loop, captured=3)


def test_functions_that_return_gradients_and_values() -> None:
    def loop(x: Tensor) -> None:
        net = network()
        names, params = zip(*net.named_parameters(), strict=True)

        def loss(values: Sequence[Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
            return loss_of(net, dict(zip(names, values, strict=True)), x), x.sum()

        gradients, (value, _) = grad_and_value(loss, has_aux=True)(params, x)
        assert value.requires_grad
        distance(gradients).backward()

    check("gm", matched_by_hand(images()), loop, captured=1)


def test_names_that_were_bound_before() -> None:
    def loop(x: Tensor) -> None:
        net = network()
        gradients = early_grad(
            cross_entropy(net(x), LABELS), [*net.parameters()], create_graph=True
        )
        (x.grad,) = early_grad(distance(gradients), x)

    check("gm", matched_by_hand(images()), loop, captured=1)


@pytest.mark.filterwarnings("ignore:Using backward")
@pytest.mark.parametrize("clears", [None, 0])
def test_backward_passes_that_create_a_graph(clears: int | None) -> None:
    def loop(x: Tensor) -> None:
        net = network()
        if clears == 0:
            for p in net.parameters():
                p.grad = torch.zeros_like(p)
        cross_entropy(net(x), LABELS).backward(create_graph=True)
        gradients = [p.grad for p in net.parameters()]
        x.grad = None
        distance(gradients).backward()
        for p in net.parameters():
            p.grad = None

    check("gm", matched_by_hand(images()), loop, captured=1)


@pytest.mark.filterwarnings("ignore:Using backward")
def test_backward_passes_that_create_a_graph_for_a_decoder() -> None:
    def run(lam: float | None) -> list[Tensor]:
        torch.manual_seed(0)
        decoder, net = nn.Linear(3, 16), network()

        def loop() -> list[Tensor]:
            optimizer = torch.optim.SGD(decoder.parameters(), lr=0.1)
            x = torch.tanh(decoder(torch.eye(3)))
            cross_entropy(net(x), LABELS).backward(create_graph=True)
            gradients = [p.grad for p in net.parameters()]
            optimizer.zero_grad()
            distance(gradients).backward()
            found = [p.grad.detach().clone() for p in decoder.parameters()]
            optimizer.step()
            for p in [*net.parameters(), *decoder.parameters()]:
                p.grad = None
            return found

        if lam is not None:
            with inject(lam, profile="gm") as record:
                found = loop()
            assert record.columns()["captured"] == [1]
            return found
        x = torch.tanh(decoder(torch.eye(3)))
        loss, term = matched(net, x)
        return list(torch.autograd.grad(loss + LAM * term, [*decoder.parameters()]))

    torch.testing.assert_close(run(LAM), run(None), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("weight", [5.0, -0.2, 0.0])
def test_the_norm_is_of_the_gradient_of_the_loss_itself(weight: float) -> None:
    def loop(x: Tensor) -> None:
        net = network()
        loss = cross_entropy(net(x), LABELS)
        seed = torch.tensor(weight)
        gradients = torch.autograd.grad(loss, [*net.parameters()], seed, create_graph=True)
        distance([g + p for g, p in zip(gradients, net.parameters(), strict=True)]).backward()

    x, net = images(), network()
    gradients = torch.autograd.grad(
        cross_entropy(net(x), LABELS), [*net.parameters()], create_graph=True
    )
    total = distance([weight * g + p for g, p in zip(gradients, net.parameters(), strict=True)])
    total = total + (LAM * norm(gradients) if weight else 0)
    check("gm", torch.autograd.grad(total, x)[0], loop, captured=1)


def test_weights_of_samples_are_part_of_the_loss() -> None:
    shares = torch.tensor([0.5, 0.3, 0.2])

    def loop(x: Tensor) -> None:
        net = network()
        losses = cross_entropy(net(x), LABELS, reduction="none")
        gradients = torch.autograd.grad(losses, [*net.parameters()], shares, create_graph=True)
        distance(gradients).backward()

    x, net = images(), network()
    loss = (shares * cross_entropy(net(x), LABELS, reduction="none")).sum()
    gradients = torch.autograd.grad(loss, [*net.parameters()], create_graph=True)
    total = distance(gradients) + LAM * norm(gradients)
    check("gm", torch.autograd.grad(total, x)[0], loop, captured=1)


@pytest.mark.parametrize("together", [False, True])
def test_two_networks_per_step(together: bool) -> None:
    def loop(x: Tensor) -> None:
        losses = [matched(network(seed), x)[0] for seed in (1, 2)]
        if together:
            (losses[0] + losses[1]).backward()
        else:
            for loss in losses:
                loss.backward()

    check("gm", matched_by_hand(images(), network(1), network(2)), loop, captured=2)


def test_two_losses_per_trajectory_step() -> None:
    """Each of them has the mean of its own inner steps."""

    def loop(x: Tensor) -> None:
        losses = [unrolled(network(seed), x, steps=seed)[0] for seed in (1, 2)]
        for loss in losses:
            loss.backward()

    x = images()
    parts = [unrolled(network(seed), x, steps=seed) for seed in (1, 2)]
    total = sum(loss + LAM * torch.stack(norms).mean() for loss, norms in parts)
    check("tm", torch.autograd.grad(total, x)[0], loop, captured=3)


def test_several_gradients_assigned_at_once() -> None:
    def loop(x: Tensor) -> None:
        labels = torch.eye(3, requires_grad=True)
        net = network()
        loss = cross_entropy(net(x), labels)
        gradients = torch.autograd.grad(loss, [*net.parameters()], create_graph=True)
        x.grad, labels.grad = torch.autograd.grad(distance(gradients), [x, labels])

    check("gm", matched_by_hand(images()), loop, captured=1)


@pytest.mark.parametrize("first", ["images", "labels"])
@pytest.mark.parametrize("accumulates", [False, True])
def test_gradients_asked_for_one_after_the_other(first: str, accumulates: bool) -> None:
    labels = torch.eye(3, requires_grad=True)

    def both(x: Tensor) -> list[Tensor]:
        return [x, labels] if first == "images" else [labels, x]

    def outer(x: Tensor) -> tuple[Tensor, Tensor]:
        net = network()
        loss = cross_entropy(net(x), labels)
        gradients = torch.autograd.grad(loss, [*net.parameters()], create_graph=True)
        return distance(gradients), norm(gradients)

    def loop(x: Tensor) -> None:
        loss, _ = outer(x)
        labels.grad = None
        for tensor in both(x):
            if accumulates:
                loss.backward(inputs=[tensor], retain_graph=True)
            else:
                (tensor.grad,) = torch.autograd.grad(loss, tensor, retain_graph=True)

    x = images()
    loss, term = outer(x)
    expected, by_labels = torch.autograd.grad(loss + LAM * term, [x, labels])
    check("gm", expected, loop, captured=1)
    torch.testing.assert_close(labels.grad, by_labels, rtol=1e-9, atol=1e-12)


def test_losses_that_use_some_inner_steps_only() -> None:
    """The steps that the loss uses count, whatever was computed after them."""

    def loop(x: Tensor) -> None:
        net = network()
        names, values = zip(*net.named_parameters(), strict=True)
        params = [value.detach().requires_grad_() for value in values]
        path = [params]
        for _ in range(5):
            loss = loss_of(net, dict(zip(names, params, strict=True)), x)
            gradients = torch.autograd.grad(loss, params, create_graph=True)
            params = [p - 0.5 * g for p, g in zip(params, gradients, strict=True)]
            path.append(params)
        distance(path[3]).backward()

    check("tm", unrolled_by_hand(images()), loop, captured=3)


def tesla_pass(
    net: Callable[[Tensor, Tensor], Tensor], x: Tensor, start: Tensor, steps: int
) -> list[Tensor]:
    """TESLA's first pass: the student's parameters at each inner step, and after the last."""
    path = [start.clone().requires_grad_()]
    for _ in range(steps):
        (g,) = torch.autograd.grad(net(x, path[-1]), path[-1], create_graph=True)
        path.append((path[-1] - 0.5 * g.detach()).detach().requires_grad_())
    return path


def flat_loss(x: Tensor, weights: Tensor) -> Tensor:
    return cross_entropy(torch.tanh(x.flatten(1)) @ weights.view(16, 3), LABELS)


def starts() -> list[Tensor]:
    torch.manual_seed(2)
    return [torch.randn(48), torch.randn(48)]


@pytest.mark.parametrize("form", ["one after the other", "together", "product by product"])
@pytest.mark.parametrize("fresh", [False, True])
def test_two_networks_per_step_by_hand(form: str, fresh: bool) -> None:
    steps = 3

    def gradient_at(x: Tensor, weights: Tensor) -> Tensor:
        weights = weights.detach().requires_grad_() if fresh else weights
        return torch.autograd.grad(flat_loss(x, weights), weights, create_graph=True)[0]

    def loop(x: Tensor) -> None:
        total = torch.zeros_like(x)
        if form == "one after the other":
            for start in starts():
                path = tesla_pass(flat_loss, x, start, steps)
                for weights in path[:-1]:
                    g = gradient_at(x, weights)
                    total += torch.autograd.grad(path[-1].detach() @ g, x)[0]
        else:
            paths = [tesla_pass(flat_loss, x, start, steps) for start in starts()]
            for pair in zip(*paths, strict=True):
                if any(weights is path[-1] for weights, path in zip(pair, paths, strict=True)):
                    break
                first, second = (gradient_at(x, weights) for weights in pair)
                products = [
                    path[-1].detach() @ g for path, g in zip(paths, (first, second), strict=True)
                ]
                if form == "together":
                    total += torch.autograd.grad(products[0] + products[1], x)[0]
                else:
                    for product in products:
                        total += torch.autograd.grad(product, x, retain_graph=True)[0]
        x.grad = total

    x = images()
    expected, share = torch.zeros_like(x), 0.5 if form == "together" else 1.0
    for start in starts():
        path = tesla_pass(flat_loss, x, start, steps)
        for weights in path[:-1]:
            g = gradient_at(x, weights)
            term = path[-1].detach() @ g + share * LAM / steps * g.norm()
            expected += torch.autograd.grad(term, x)[0]
    check("tesla", expected, loop, captured=2 * steps)


@pytest.mark.parametrize("networks", [1, 2])
@pytest.mark.parametrize("calls_backward", [False, True])
def test_back_propagation_by_hand_through_the_steps(networks: int, calls_backward: bool) -> None:
    rate, steps = torch.tensor(0.5, requires_grad=True), 3

    def real_loss(weights: Tensor) -> Tensor:
        return (weights - 1).square().sum()

    def of_network(x: Tensor, start: Tensor) -> Tensor:
        path, gradients = [start.clone().requires_grad_()], []
        for _ in range(steps):
            loss = flat_loss(x, path[-1])
            (g,) = torch.autograd.grad(loss, path[-1], rate, create_graph=True)
            gradients.append(g)
            path.append((path[-1] - g).detach().requires_grad_())
        if calls_backward:
            real_loss(path[-1]).backward()
            by_weights = path[-1].grad
        else:
            (by_weights,) = torch.autograd.grad(real_loss(path[-1]), path[-1])
        total = torch.zeros_like(x)
        for weights, g in zip(path[-2::-1], gradients[::-1], strict=True):
            back, by_images, by_rate = torch.autograd.grad(
                (g,), [weights, x, rate], grad_outputs=(by_weights.neg(),)
            )
            by_weights, total = by_weights + back, total + by_images
            rate.grad += by_rate
        return total

    def loop(x: Tensor) -> None:
        rate.grad = torch.zeros(())
        x.grad = sum(of_network(x, start) for start in starts()[:networks])

    x, total = images(), torch.zeros(())
    for start in starts()[:networks]:
        weights, norms = start.clone().requires_grad_(), []
        for _ in range(steps):
            (g,) = torch.autograd.grad(flat_loss(x, weights), weights, create_graph=True)
            norms.append(g.norm())
            weights = weights - rate * g
        total = total + real_loss(weights) + LAM * torch.stack(norms).mean()
    expected, by_rate = torch.autograd.grad(total, [x, rate])
    check("tesla", expected, loop, captured=networks * steps)
    torch.testing.assert_close(rate.grad, by_rate, rtol=1e-9, atol=1e-12)


def compiled_loop(x: Tensor, backend: str) -> None:
    net = network()
    inner = torch.compile(lambda x: cross_entropy(net(x), LABELS), backend=backend)
    gradients = torch.autograd.grad(inner(x), [*net.parameters()], create_graph=True)
    distance(gradients).backward()


def test_compiled_functions_are_refused_by_line() -> None:
    line = compiled_loop.__code__.co_firstlineno + 3
    with (
        pytest.raises(InjectionError, match=f"^line {line} of test_forms.py .* torch.compile"),
        inject(LAM, profile="gm"),
    ):
        compiled_loop(images(), "aot_eager")


def test_functions_compiled_without_a_backend_for_gradients_are_corrected() -> None:
    check("gm", matched_by_hand(images()), lambda x: compiled_loop(x, "eager"), captured=1)

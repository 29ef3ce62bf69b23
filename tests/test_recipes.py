"""Recipes for loops of one's own: each against a computation by hand, and against ``inject``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeAlias

import pytest
import torch
from helpers import ROOT
from torch import Tensor, nn
from torch.func import functional_call
from torch.func import grad as func_grad
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook

from sdc_ext import LogRamp, inject, with_sdc

Names: TypeAlias = dict[str, Any]

PAGE = (ROOT / "docs/ways/recipes.md").read_text(encoding="utf-8")


def recipes() -> dict[str, str]:
    """The block of Python in each section, by the section's title."""
    sections = re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
    blocks = {
        section.splitlines()[0]: re.findall(r"^```python\n(.*?)^```", section, re.DOTALL | re.M)
        for section in sections
    }
    return {title: block for title, found in blocks.items() for block in found}


@pytest.fixture(autouse=True)
def doubles() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


def run(code: str, before_step: Callable[[Names, list[Tensor]], None]) -> Names:
    """Runs a recipe; before every image step, shows its names and what its optimiser learns."""
    names: Names = {}

    def step(optimizer: Optimizer, *_: Any) -> None:
        before_step(names, optimizer.param_groups[0]["params"])

    hook = register_optimizer_step_pre_hook(step)
    try:
        exec(compile(code, "recipe", "exec"), names)
    finally:
        hook.remove()
    return names


def distance(syn: Sequence[Tensor], real: Sequence[Tensor]) -> Tensor:
    return torch.stack([(s - r).square().sum() for s, r in zip(syn, real, strict=True)]).sum()


def norm(gradients: Sequence[Tensor]) -> Tensor:
    return torch.cat([g.flatten() for g in gradients]).norm()


def gradient(loss: Tensor, network: nn.Module) -> list[Tensor]:
    return list(torch.autograd.grad(loss, [*network.parameters()], create_graph=True))


# Each returns the matching loss and the term at lam 1, from what is learnt.
Parts: TypeAlias = tuple[Tensor, Tensor]


def of_class(names: Names, images: Tensor, c: int) -> tuple[list[Tensor], list[Tensor]]:
    network, real = names["network"], names["real"]
    target = torch.full((8,), c)
    return (
        gradient(cross_entropy(network(images[c]), target[:2]), network),
        gradient(cross_entropy(network(real[c]), target), network),
    )


def class_by_class(names: Names, images: Tensor) -> Parts:
    of = [of_class(names, images, c) for c in range(3)]
    matching = torch.stack([distance(s, r) for s, r in of]).sum()
    return matching, torch.stack([norm(s) for s, _ in of]).sum()


def all_at_once(names: Names, images: Tensor) -> Parts:
    of = [of_class(names, images, c) for c in range(3)]  # gradients of a sum are sums of gradients
    syn = [torch.stack(parts).sum(0) for parts in zip(*(s for s, _ in of), strict=True)]
    real = [torch.stack(parts).sum(0) for parts in zip(*(r for _, r in of), strict=True)]
    return distance(syn, real), norm(syn)


def unrolled(names: Names, images: Tensor, syn_lr: Tensor) -> Parts:
    start, target = names["start"], names["target"]
    student, norms = start.clone().requires_grad_(), []
    for _ in range(4):
        loss = cross_entropy(images.flatten(1) @ student.view(36, 3), names["labels"])
        (g,) = torch.autograd.grad(loss, student, create_graph=True)
        norms.append(g.norm())
        student = student - syn_lr * g
    matching = (student - target).square().sum() / (start - target).square().sum()
    return matching, torch.stack(norms).mean()


def by_hand_of_tesla(names: Names, images: Tensor) -> Parts:
    """TESLA's loss: the weights of every step are constants."""
    start, target, gradients = names["start"], names["target"], []
    weights = start.clone().requires_grad_()
    for _ in range(4):
        loss = cross_entropy(images.flatten(1) @ weights.view(36, 3), names["labels"])
        gradients += torch.autograd.grad(loss, weights, create_graph=True)
        weights = (weights - 0.1 * gradients[-1]).detach().requires_grad_()
    end = start - 0.1 * torch.stack(gradients).sum(0)
    matching = (end - target).square().sum() / (start - target).square().sum()
    return matching, torch.stack([g.norm() for g in gradients]).mean()


def generated(names: Names, codes: Tensor, *decoder: Tensor) -> Parts:
    images = torch.sigmoid(codes @ decoder[0].T + decoder[1]).view(-1, 1, 6, 6)
    network, labels = names["network"], names["labels"]
    syn = gradient(cross_entropy(network(images), labels[:6]), network)
    real = gradient(cross_entropy(network(names["real"]), labels), network)
    return distance(syn, real), norm(syn)


def functional(names: Names, images: Tensor) -> Parts:
    network, labels = names["network"], names["labels"]
    syn = gradient(cross_entropy(network(images), labels[:6]), network)
    real = gradient(cross_entropy(network(names["real"]), labels), network)
    return distance(syn, real), norm(syn)


def features(names: Names, images: Tensor) -> Parts:
    embed, classifier = names["embed"], names["classifier"]
    gaps = [embed(names["real"][c]).mean(0) - embed(images[c]).mean(0) for c in range(3)]
    whole = nn.Sequential(embed, classifier)
    loss = cross_entropy(whole(images.view(6, 1, 6, 6)), torch.tensor([0, 0, 1, 1, 2, 2]))
    return torch.stack(gaps).square().sum(), norm(gradient(loss, whole))


def in_place(names: Names, images: Tensor) -> Parts:
    syn, real = of_class(names, images, names["c"])
    compared = [(s - r).abs().sum() for s, r in zip(syn, real, strict=True) if s.ndim > 1]
    return torch.stack(compared).sum(), norm(syn)


RAMP = LogRamp(0.0002, 0.002, steps=1000)

# The parts of a loss by hand, lam, and the profile of the same loop in ``inject``.
BY_HAND: dict[str, tuple[Callable[..., Parts], Any, str | None]] = {
    "Class by class": (class_by_class, RAMP, "gm"),
    "All classes at once": (all_at_once, 0.02, "gm"),
    "Unrolled steps": (unrolled, 0.002, "tm"),
    "Image gradients made by hand": (by_hand_of_tesla, 0.002, "tesla"),
    "Codes, factors and decoders": (generated, None, "gm"),
    "Functional gradients": (functional, 0.002, "gm"),
    "Features": (features, 0.2, None),
    "A loss computed in place": (in_place, 0.002, "gm"),
}


def test_every_family_has_a_recipe() -> None:
    assert set(recipes()) == set(BY_HAND)


@pytest.mark.parametrize("title", BY_HAND)
def test_a_recipe_is_the_computation_by_hand(title: str) -> None:
    parts, lam, _ = BY_HAND[title]
    steps: list[float] = []

    def check(names: Names, learnt: list[Tensor]) -> None:
        leaves = [tensor.detach().clone().requires_grad_() for tensor in learnt]
        matching, term = parts(names, *leaves)
        by_matching = torch.autograd.grad(matching, leaves, retain_graph=True)
        by_term = torch.autograd.grad(term, leaves, allow_unused=True)
        if lam is None:  # from a share, which the first step has exactly
            weight = names["match_loss"].lam
            if not steps:
                assert weight == pytest.approx(float(0.1 * norm(by_matching) / norm(by_term)))
        else:
            weight = lam(names["it"]) if callable(lam) else lam
        steps.append(weight)
        for tensor, m, t in zip(learnt, by_matching, by_term, strict=True):
            effect = torch.zeros_like(m) if t is None else weight * t
            torch.testing.assert_close(tensor.grad, m + effect, rtol=1e-10, atol=1e-13)
        assert norm([t for t in by_term if t is not None]) > 1e-3

    run(recipes()[title], check)
    assert len(steps) == (6 if parts is in_place else 2)


class Plain:
    """A loss without the correction, which is what the loop had before."""

    def __init__(self, loss_fn: Callable[..., Tensor], **_: Any) -> None:
        self.loss_fn = loss_fn
        self.iteration, self.lam, self.difficulty = 0, 0.0, 0.0

    def __call__(self, *args: Any) -> Tensor:
        return self.loss_fn(*args)

    def observe(self, gradients: Any) -> None:
        pass


@pytest.mark.parametrize("title", [title for title in BY_HAND if BY_HAND[title][2]])
def test_inject_corrects_the_same_loop_alike(title: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of what counts holds for both ways."""
    code = recipes()[title].replace("share=0.1, images=learnt", "lam=0.002")
    _, lam, profile = BY_HAND[title]
    seen: list[list[Tensor]] = []

    def note(_: Names, learnt: list[Tensor]) -> None:
        seen.append([tensor.grad.clone() for tensor in learnt])

    run(code, note)
    ours, seen = seen, []
    torch.manual_seed(0)
    monkeypatch.setattr("sdc_ext.with_sdc", Plain)
    with inject(0.002 if lam is None else lam, profile=profile) as record:
        run(code, note)
    for mine, theirs in zip(ours, seen, strict=True):
        torch.testing.assert_close(theirs, mine, rtol=1e-10, atol=1e-13)
    assert len(record.steps) == len(ours)


def test_dictionaries_of_an_unrolled_loop_are_observed() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    images, labels = torch.rand(6, 1, 6, 6, requires_grad=True), torch.arange(6) % 3
    sdc = with_sdc(lambda loss: loss, lam=0.3)

    def training_loss(weights: dict[str, Tensor]) -> Tensor:
        return cross_entropy(functional_call(network, weights, (images,)), labels)

    path, norms = [{name: p.detach() for name, p in network.named_parameters()}], []
    for _ in range(4):
        gradients = func_grad(training_loss)(path[-1])
        sdc.observe(gradients)
        norms.append(norm([*gradients.values()]))
        path.append({name: w - 0.5 * gradients[name] for name, w in path[-1].items()})
    matching = distance([*path[3].values()], [*path[0].values()])  # without the last step
    torch.testing.assert_close(sdc(matching), matching + 0.3 * torch.stack(norms[:3]).mean())


Sdc: TypeAlias = Any  # a corrected loss, or a plain one

STUDENTS = torch.randn(2, 108, generator=torch.Generator().manual_seed(0)).double()


def trajectory(sdc: Sdc, images: Tensor, network: int = 0) -> tuple[list[Tensor], list[Tensor]]:
    """The parameters of a student before and after each of four steps, and its gradients."""
    path, gradients = [STUDENTS[network].clone().requires_grad_()], []
    for _ in range(4):
        loss = cross_entropy(images.flatten(1) @ path[-1].view(36, 3), torch.arange(6) % 3)
        gradients += torch.autograd.grad(loss, path[-1], create_graph=True)
        sdc.observe(gradients[-1])
        path.append(path[-1] - 0.5 * gradients[-1])
    return path, gradients


def earlier_step(sdc: Sdc, images: Tensor) -> None:
    path, _ = trajectory(sdc, images)
    sdc(path[2].square().sum()).backward()


def two_losses_of_one_trajectory(sdc: Sdc, images: Tensor) -> None:
    """A gradient counts once: for the first loss that uses it."""
    path, gradients = trajectory(sdc, images)
    sdc(path[2].square().sum()).backward(retain_graph=True)
    for gradient in gradients[2:]:
        sdc.observe(gradient)
    sdc(path[4].square().sum()).backward()


def two_students_summed_first(sdc: Sdc, images: Tensor) -> None:
    ends = [trajectory(sdc, images, k)[0][2 + 2 * k] for k in range(2)]
    sdc(torch.stack(ends).square().sum()).backward()


def two_students_one_by_one(sdc: Sdc, images: Tensor) -> None:
    for k in range(2):
        path, _ = trajectory(sdc, images, k)
        sdc(path[2 + 2 * k].square().sum()).backward()


def losses_that_are_summed(sdc: Sdc, images: Tensor) -> None:
    losses = []
    for k in range(2):
        path, _ = trajectory(sdc, images, k)
        losses.append(sdc(path[2 + 2 * k].square().sum()))
    for loss in losses:
        loss.backward()


def classes(sdc: Sdc, images: Tensor, *, together: bool) -> None:
    weight, losses = STUDENTS[0].clone().requires_grad_(), []
    for c in range(3):
        loss = cross_entropy(images[c::3].flatten(1) @ weight.view(36, 3), torch.tensor([c, c]))
        (gradient,) = torch.autograd.grad(loss, weight, create_graph=True)
        sdc.observe(gradient)
        losses.append(sdc(gradient.square().sum()))
        if not together:
            losses.pop().backward()
    if together:
        torch.stack(losses).sum().backward()


@pytest.mark.parametrize("lam", [0.3, LogRamp(0.1, 0.4, steps=2)])
@pytest.mark.parametrize(
    ("loop", "profile"),
    [
        (earlier_step, "tm"),
        (two_losses_of_one_trajectory, "tm"),
        (two_students_summed_first, "tm"),
        (two_students_one_by_one, "tm"),
        (losses_that_are_summed, "tm"),
        (partial(classes, together=True), "gm"),
        (partial(classes, together=False), "gm"),
    ],
)
def test_what_counts_is_the_same_both_ways(
    loop: Callable[[Sdc, Tensor], None], profile: Any, lam: Any
) -> None:
    """Inner steps, several losses and image steps, as the page on ``sdc-ext run`` defines them."""

    def run(sdc: Sdc) -> list[Tensor]:
        torch.manual_seed(0)
        images, found = torch.rand(6, 1, 6, 6, requires_grad=True), []
        optimizer = torch.optim.SGD([images], lr=0.1)
        for iteration in range(3):
            sdc.iteration = iteration
            optimizer.zero_grad()
            loop(sdc, images)
            found.append(images.grad.clone())
            optimizer.step()
        return found

    ours = run(with_sdc(lambda loss: loss, lam))
    with inject(lam, profile=profile):
        theirs = run(Plain(lambda loss: loss))
    for mine, injected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(injected, mine, rtol=1e-10, atol=1e-13)

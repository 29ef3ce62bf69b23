"""The share: how strong the correction is, and lam that follows from it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sdc_ext import LogRamp, gradient_norm, with_sdc
from sdc_ext.strength import RECORDED_EVERY, REFRESHED_EVERY, Pull, find_images


class Matching:
    """A small gradient-matching problem in double precision."""

    def __init__(self, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)

        def randn(*shape: int) -> Tensor:
            return torch.randn(*shape, dtype=torch.float64, generator=generator)

        self.images = randn(4, 1, 3, 3).requires_grad_()
        self.labels = torch.arange(4) % 3
        self.weights = [randn(9, 6).requires_grad_(), randn(6, 3).requires_grad_()]
        self.real = [randn(9, 6), randn(6, 3)]

    def gradients(self, images: Tensor) -> tuple[Tensor, ...]:
        hidden = torch.tanh(images.flatten(1) @ self.weights[0])
        loss = F.cross_entropy(hidden @ self.weights[1], self.labels)
        return torch.autograd.grad(loss, self.weights, create_graph=True)

    def term(self, images: Tensor) -> Tensor:
        return gradient_norm(self.gradients(images))

    def parts(self) -> tuple[Tensor, Tensor]:
        """The image gradients of the matching loss and of the norm."""
        gradients = self.gradients(self.images)
        roots = (distance(gradients, self.real), gradient_norm(gradients))
        matching, term = (
            torch.autograd.grad(root, self.images, retain_graph=True)[0] for root in roots
        )
        return matching, term


def distance(syn: Sequence[Tensor], real: Sequence[Tensor]) -> Tensor:
    total: Any = sum(((s - r) ** 2).sum() for s, r in zip(syn, real, strict=True))
    return total


def descend(loss: Tensor, images: Tensor) -> Tensor:
    """The gradient as a loop of one's own gets it."""
    images.grad = None
    loss.backward()
    assert images.grad is not None
    return images.grad


@given(seed=st.integers(0, 99), share=st.floats(1e-3, 3.0))
def test_first_call_has_the_share_exactly(seed: int, share: float) -> None:
    problem = Matching(seed)
    matching, term = problem.parts()
    match_loss = with_sdc(distance, share=share)
    loss = match_loss(problem.gradients(problem.images), problem.real)
    total = descend(loss, problem.images)
    assert match_loss.lam * term.norm() / matching.norm() == pytest.approx(share, rel=1e-9)
    torch.testing.assert_close(total, matching + match_loss.lam * term)
    assert match_loss.share == pytest.approx(share, rel=1e-9)
    cosine = float((matching * term).sum() / matching.norm() / term.norm())
    assert match_loss.cosine == pytest.approx(cosine, abs=1e-9)


def test_what_the_share_adds_is_the_gradient_by_finite_differences() -> None:
    problem = Matching()
    matching, _ = problem.parts()
    match_loss = with_sdc(distance, share=0.5)
    loss = match_loss(problem.gradients(problem.images), problem.real)
    added = (descend(loss, problem.images) - matching) / match_loss.lam
    step = 1e-6
    for row in range(problem.images.numel()):
        moved = torch.zeros(problem.images.numel(), dtype=torch.float64)
        moved[row] = step
        moved = moved.view_as(problem.images)
        ahead, behind = (problem.term(problem.images.detach() + s * moved) for s in (1, -1))
        slope = float((ahead - behind).detach()) / (2 * step)
        assert float(added.flatten()[row]) == pytest.approx(slope, abs=1e-7)


def test_lam_is_measured_now_and_then_and_smoothed() -> None:
    match_loss = with_sdc(distance, share=0.2)
    lams, shares = [], []
    for call in range(REFRESHED_EVERY + 2):
        problem = Matching(call)
        matching, term = problem.parts()
        match_loss(problem.gradients(problem.images), problem.real)
        lams.append(match_loss.lam)
        shares.append(match_loss.lam * float(term.norm() / matching.norm()))
    assert len(set(lams[:REFRESHED_EVERY])) == 1
    assert lams[REFRESHED_EVERY] == lams[-1] != lams[0]
    # The mean of both measures: neither the first's lam nor the second's.
    second = 0.2 / (shares[REFRESHED_EVERY] / lams[REFRESHED_EVERY])
    assert min(lams[0], second) < lams[-1] < max(lams[0], second)


def test_the_share_of_a_given_lam_is_measured_and_changes_nothing() -> None:
    problem = Matching()
    matching, term = problem.parts()
    match_loss = with_sdc(distance, lam=0.3)
    assert math.isnan(match_loss.share)
    total = descend(match_loss(problem.gradients(problem.images), problem.real), problem.images)
    assert match_loss.lam == 0.3
    assert match_loss.share == pytest.approx(0.3 * float(term.norm() / matching.norm()), rel=1e-9)
    gradients = problem.gradients(problem.images)
    by_hand = distance(gradients, problem.real) + 0.3 * gradient_norm(gradients)
    assert torch.equal(total, torch.autograd.grad(by_hand, problem.images)[0])


@pytest.mark.parametrize("strength", [{"lam": 0.0}, {"share": 0.0}])
def test_strength_zero_measures_nothing(strength: dict[str, float]) -> None:
    problem = Matching()
    match_loss = with_sdc(distance, **strength)
    assert not match_loss.needs_graph and not match_loss.measures
    loss = match_loss(problem.gradients(problem.images), problem.real)
    assert torch.equal(loss, distance(problem.gradients(problem.images), problem.real))
    assert match_loss.share == 0 and math.isnan(match_loss.cosine)


def test_ramps_of_the_share() -> None:
    problem = Matching()
    match_loss = with_sdc(distance, share=LogRamp(0.1, 0.4, steps=2))
    lams = []
    for _ in range(3):
        match_loss(problem.gradients(problem.images), problem.real)
        lams.append(match_loss.lam)
    assert lams == pytest.approx([lams[0], 2 * lams[0], 4 * lams[0]])


def test_squared_norms_have_their_own_gradient() -> None:
    problem = Matching()
    matching, term = problem.parts()
    match_loss = with_sdc(distance, share=0.1, norm="l2_squared")
    match_loss(problem.gradients(problem.images), problem.real)
    squared = 2 * float(problem.term(problem.images).detach()) * float(term.norm())
    assert match_loss.lam * squared / float(matching.norm()) == pytest.approx(0.1)


def test_images_are_found_behind_modules_and_slices() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2, 3))
    images = torch.randn(4, 1, 3, 3, requires_grad=True)
    loss = F.cross_entropy(network(images[1:3] * 2), torch.tensor([0, 1]))
    gradients = torch.autograd.grad(loss, list(network.parameters()), create_graph=True)
    (found,) = find_images(gradient_norm(gradients))
    assert found is images


def test_latent_codes_are_found_and_parameters_have_to_be_given() -> None:
    codes = torch.randn(3, 2, requires_grad=True)
    weight = nn.Parameter(torch.randn(2, 3))
    (found,) = find_images((codes @ weight).sum())
    assert found is codes
    factor = nn.Parameter(torch.randn(2, 2))
    gradient = factor**2
    match_loss = with_sdc(distance, share=0.1)
    with pytest.raises(ValueError, match="share needs the images"):
        match_loss([gradient], [torch.zeros(2, 2)])
    given = with_sdc(distance, share=0.1, images=factor)
    given([gradient], [torch.zeros(2, 2)])
    assert given.share == pytest.approx(0.1)


def test_a_term_without_slope_leaves_lam_alone() -> None:
    images = torch.ones(1, 2, 2, requires_grad=True)
    match_loss = with_sdc(lambda g, _: (g[0] ** 2).sum() + images.sum(), share=0.1, images=images)
    with pytest.warns(UserWarning, match="no share can be measured"):
        match_loss([0 * images], None)
    assert match_loss.lam == 0 and math.isnan(match_loss.cosine)


def test_images_that_the_loss_does_not_depend_on_are_told() -> None:
    problem = Matching()
    match_loss = with_sdc(distance, share=0.1, images=torch.zeros(4, 1, 3, 3, requires_grad=True))
    with pytest.warns(UserWarning, match="pass what is learnt and the loss depends on"):
        match_loss(problem.gradients(problem.images), problem.real)


def test_weights_that_are_plain_tensors_are_not_taken_for_images() -> None:
    weight = torch.randn(2, 1, 3, 3, requires_grad=True)
    images = torch.randn(4, 1, 3, 3, requires_grad=True)
    loss = F.conv2d(images, weight).square().mean()
    gradients = torch.autograd.grad(loss, [weight], create_graph=True)
    real = [torch.zeros_like(weight)]
    matching, term = (
        torch.autograd.grad(root, images, retain_graph=True)[0]
        for root in (distance(gradients, real), gradient_norm(gradients))
    )
    passed, observed = with_sdc(distance, share=0.1), with_sdc(distance, share=0.1)
    passed(gradients, real)
    observed.observe(gradients)
    observed(gradients, real)
    expected = 0.1 * float(matching.norm() / term.norm())
    assert passed.lam == pytest.approx(expected, rel=1e-4)
    assert observed.lam == pytest.approx(expected, rel=1e-4)


def checkpointed(decoder: nn.Module) -> Callable[[Tensor], Tensor]:
    return lambda codes: checkpoint(decoder, codes, use_reentrant=True)


def compiled(decoder: nn.Module) -> Callable[[Tensor], Tensor]:
    return torch.compile(decoder, backend="aot_eager")


@pytest.mark.parametrize("once", [checkpointed, compiled])
def test_a_loss_that_is_differentiated_once_only_is_corrected_without_a_measure(once: Any) -> None:
    torch.manual_seed(0)
    layers = nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 12)
    network, decoder = nn.Linear(12, 3), nn.Sequential(*layers)
    weights, real = [*network.parameters()], [torch.ones(3, 12), torch.ones(3)]
    codes = torch.randn(5, 4, requires_grad=True)

    def descended(match_loss: Any, decode: Callable[[Tensor], Tensor]) -> Tensor:
        loss = F.cross_entropy(network(decode(codes)), torch.arange(5) % 3)
        gradients = torch.autograd.grad(loss, weights, create_graph=True)
        return descend(match_loss(gradients, real), codes)

    decode = once(decoder)
    descended(distance, decode)  # a compiled function is made for the first backward pass
    match_loss = with_sdc(distance, lam=0.3)
    for _ in range(2):
        expected = descended(lambda gw, real: distance(gw, real) + 0.3 * gradient_norm(gw), decoder)
        torch.testing.assert_close(descended(match_loss, decode), expected)
    assert match_loss.updates == 2 and math.isnan(match_loss.share)
    with pytest.raises(ValueError, match=r"cannot be differentiated twice .*: pass lam= instead"):
        descended(with_sdc(distance, share=0.1), decode)


def test_images_may_come_from_an_iterator() -> None:
    torch.manual_seed(0)
    network, decoder = nn.Linear(12, 3), nn.Linear(4, 12)
    weights, real = [*network.parameters()], [torch.ones(3, 12), torch.ones(3)]
    losses = [
        with_sdc(distance, share=0.1, images=images)
        for images in (decoder.parameters(), [*decoder.parameters()])
    ]
    for _ in range(REFRESHED_EVERY + 1):
        loss = F.cross_entropy(network(decoder(torch.randn(5, 4))), torch.arange(5) % 3)
        gradients = torch.autograd.grad(loss, weights, create_graph=True)
        found, expected = (match_loss(gradients, real) for match_loss in losses)
        assert torch.equal(found, expected)
    assert losses[0].state_dict() == losses[1].state_dict()


def test_features_of_the_shape_of_a_parameter_are_images() -> None:
    probe = nn.Linear(64, 10)
    features = torch.randn(10, 64, requires_grad=True)
    loss = F.cross_entropy(probe(features), torch.arange(10))
    gradients = torch.autograd.grad(loss, [*probe.parameters()], create_graph=True)
    real = [torch.zeros_like(gradient) for gradient in gradients]
    found, given = (with_sdc(distance, share=0.1, images=i) for i in (None, features))
    assert torch.equal(found(gradients, real), given(gradients, real))
    assert found.lam == given.lam > 0


def test_measures_go_on_where_they_were_saved() -> None:
    calls = REFRESHED_EVERY + 3

    def run(match_loss: Any, first: int, last: int) -> None:
        for call in range(first, last):
            problem = Matching(call)
            match_loss(problem.gradients(problem.images), problem.real)

    whole, stopped, resumed = (with_sdc(distance, share=0.1) for _ in range(3))
    run(whole, 0, calls)
    run(stopped, 0, 5)
    resumed.load_state_dict(stopped.state_dict())
    run(resumed, 5, calls)
    assert resumed.state_dict() == whole.state_dict()


def test_a_ramp_goes_on_where_it_was_saved() -> None:
    problem, ramp = Matching(), LogRamp(0.001, 1.0, steps=8)
    whole, stopped, resumed, earlier = (with_sdc(distance, lam=ramp) for _ in range(4))

    def call(match_loss: Any, times: int) -> None:
        for _ in range(times):
            match_loss(problem.gradients(problem.images), problem.real)

    call(whole, 8)
    call(stopped, 5)
    saved = stopped.state_dict()
    resumed.load_state_dict(saved)
    earlier.load_state_dict({n: v for n, v in saved.items() if n != "iteration"})
    for goes_on in (resumed, earlier):
        assert goes_on.iteration == 5
        call(goes_on, 3)
        assert (goes_on.lam, goes_on.iteration) == (ramp(7), 8)
        assert goes_on.state_dict() == whole.state_dict()


def test_a_process_without_a_class_settles_as_the_others_do() -> None:
    ramp = LogRamp(0.01, 0.1, REFRESHED_EVERY)
    with_classes, without = (with_sdc(distance, share=ramp) for _ in range(2))
    for iteration in range(REFRESHED_EVERY + 1):
        problem = Matching(iteration)
        with_classes.iteration = without.iteration = iteration
        gw_syn = problem.gradients(problem.images)
        corrected = with_classes.corrected([gradient_norm(gw_syn)], gw_syn, problem.real)
        gradients = with_classes.differentiate(corrected, [problem.images])
        expected, found = with_classes.settle(gradients), without.settle(gradients)
        assert torch.equal(found[0], expected[0])
    assert without.state_dict() == with_classes.state_dict()


def test_measures_of_a_given_lam_are_rare() -> None:
    problem = Matching()
    match_loss = with_sdc(distance, lam=0.1)
    due = []
    for _ in range(RECORDED_EVERY + 1):
        due.append(match_loss.measures)
        match_loss(problem.gradients(problem.images), problem.real)
    assert [call for call, is_due in enumerate(due) if is_due] == [0, RECORDED_EVERY]


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"lam": 0.1, "share": 0.1}, ValueError, "lam and share exclude each other"),
        ({"share": -0.1}, ValueError, "share must be finite and at least 0, got -0.1"),
        ({"share": math.nan}, ValueError, "share must be finite and at least 0, got nan"),
        ({"share": "a"}, TypeError, "share must be a number or a schedule, got str"),
        ({"share": True}, TypeError, "share must be a number or a schedule, got bool"),
    ],
)
def test_errors(arguments: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        with_sdc(distance, **arguments)


def test_pull_of_opposed_gradients() -> None:
    pull = Pull.of([torch.tensor([3.0, 4.0])], [torch.tensor([-0.6, -0.8])])
    assert (pull.matching, pull.term, pull.cosine) == pytest.approx((5, 1, -1))
    assert pull.share(0.5) == pytest.approx(0.1)


def test_log_ramp_grows_geometrically_then_stays() -> None:
    ramp = LogRamp(0.002, 0.032, steps=4)
    assert [ramp(t) for t in range(5)] == pytest.approx([0.002, 0.004, 0.008, 0.016, 0.032])
    assert ramp(5) == ramp(10_000) == pytest.approx(0.032)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0, 1.0, 10), "LogRamp start must be finite and above 0, got 0.0"),
        ((-1.0, 1.0, 10), "LogRamp start must be finite and above 0, got -1.0"),
        ((0.1, math.inf, 10), "LogRamp end must be finite and above 0, got inf"),
        ((0.1, math.nan, 10), "LogRamp end must be finite and above 0, got nan"),
        ((0.1, 1.0, 0), "LogRamp steps must be at least 1, got 0"),
    ],
)
def test_bad_ramp_is_refused(arguments: tuple[float, float, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LogRamp(*arguments)

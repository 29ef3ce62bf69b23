"""Which gradients of a loop get which term, and loops that do not fit their profile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from injected import SCRIPTS, STANDINS, Matching, matched_by_hand, run, unrolled_by_hand
from torch import Tensor

from sdc_ext import LogRamp, inject
from sdc_ext.errors import InjectionError
from sdc_ext.injection import backward

pytestmark = pytest.mark.usefixtures("environment")


def difference(profile: str, lam: float, *arguments: str, **options: Any) -> Tensor:
    """What the correction adds to the first step's image gradient, divided by lam."""
    _, plain = run(profile, "--Iteration", "1", *arguments)
    with inject(lam, **options):
        _, corrected = run(profile, "--Iteration", "1", *arguments)
    first = [seen[0] if isinstance(seen[0], Tensor) else seen[0][-1] for seen in (plain, corrected)]
    return (first[1] - first[0]) / lam


@pytest.mark.parametrize("profile", ["tm", "tesla"])
@pytest.mark.parametrize("norm", ["l2", "l2_squared"])
@pytest.mark.parametrize("reduction", [None, "sum", "mean"])
def test_trajectories_get_the_gradient_of_the_mean_norm(
    profile: str, norm: Any, reduction: Any
) -> None:
    added = difference(profile, 0.5, norm=norm, reduction=reduction)
    _, seen = run(profile, "--Iteration", "1")
    images, *norms = unrolled_by_hand(profile, seen[0])
    values = torch.stack(norms) if norm == "l2" else torch.stack(norms).square()
    total = values.sum() if reduction == "sum" else values.mean()
    (expected,) = torch.autograd.grad(total, images)
    torch.testing.assert_close(added, expected, rtol=1e-9, atol=1e-12)


def test_gradients_that_the_script_does_not_name_are_corrected(tmp_path: Path) -> None:
    text = (STANDINS / SCRIPTS["tesla"]).read_text()
    asked = "torch.autograd.grad(ce_loss_i, w_i, create_graph=True)[0]"
    inline = text.replace(f"            grad_i = {asked}\n", "").replace("@ grad_i", f"@ {asked}")
    assert inline.count(asked) == text.count(asked) == 1
    script = tmp_path / "inline.py"
    script.write_text(inline)
    usual = difference("tesla", 0.5)
    torch.testing.assert_close(difference(str(script), 0.5), usual)


@pytest.mark.parametrize("contrast", [False, True])
@pytest.mark.parametrize("reduction", [None, "sum", "mean"])
def test_gradient_matching_gets_the_gradient_of_the_sum_of_norms(
    contrast: bool, reduction: Any
) -> None:
    arguments = ["--contrast"] * contrast
    added = difference("gm", 0.5, *arguments, reduction=reduction)
    torch.manual_seed(0)
    torch.randn(3, 5, 1, 4, 4)
    images, *norms = matched_by_hand(torch.randn(3, 1, 4, 4), contrast)
    total = torch.stack(norms)
    total = total.mean() if reduction == "mean" else total.sum()
    (expected,) = torch.autograd.grad(total, images)
    torch.testing.assert_close(added, expected, rtol=1e-9, atol=1e-12)


def test_scale_multiplies_the_term() -> None:
    half = difference("tesla", 0.5, scale=0.5)
    torch.testing.assert_close(half, difference("tesla", 0.5) / 2, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("profile", SCRIPTS)
def test_without_weight_nothing_changes_but_difficulty_is_recorded(profile: str) -> None:
    plain, _ = run(profile, "--Iteration", "3")
    with inject(0) as record:
        watched, _ = run(profile, "--Iteration", "3")
    assert torch.equal(plain, watched)
    assert record.profile == profile
    assert len(record.steps) == 3
    assert all(value > 0 for value in record.columns()["difficulty"])


def test_iterations_of_a_schedule_are_networks_and_begin_again_with_new_images() -> None:
    with inject(LogRamp(0.1, 0.4, 2)) as record:
        run("gm", "--Iteration", "3", "--outer_loop", "2", "--num_exp", "2")
    columns = record.columns()
    assert columns["iteration"] == [0, 0, 1, 1, 2, 2] * 2
    assert columns["lam"] == pytest.approx([0.1, 0.1, 0.2, 0.2, 0.4, 0.4] * 2)
    assert columns["captured"] == [3] * 12


@pytest.mark.parametrize("profile", ["tm", "tesla"])
def test_iterations_of_a_schedule_are_image_steps_of_trajectories(profile: str) -> None:
    with inject(LogRamp(0.1, 0.4, 2)) as record:
        run(profile, "--Iteration", "4")
    assert record.columns()["lam"] == pytest.approx([0.1, 0.2, 0.4, 0.4])
    assert record.columns()["captured"] == [4] * 4


@pytest.mark.parametrize(
    ("profile", "wrong", "named"),
    [
        ("gm", "tm", "gm"),
        ("gm", "tesla", "gm"),
        ("tm", "gm", "tm"),
        ("tm", "tesla", "tm"),
        ("tesla", "gm", "tesla"),
        ("tesla", "tm", "tesla"),
    ],
)
@pytest.mark.parametrize("lam", [0, 0.1])
def test_a_wrong_profile_is_an_error_that_names_the_right_one(
    profile: str, wrong: Any, named: str, lam: float
) -> None:
    with (
        pytest.raises(InjectionError, match=f"use the profile '{named}'"),
        inject(lam, profile=wrong),
    ):
        run(profile)


def test_steps_that_a_threshold_skips_do_not_disturb_the_count() -> None:
    with inject(0.1) as record:
        run("tesla", "--Iteration", "3", "--threshold", "0")
    assert record.columns()["captured"] == [4] * 3


def test_captures_left_at_a_step_are_an_error() -> None:
    images = torch.zeros(2, 1, 3, 3, requires_grad=True)
    weight = torch.ones(3, requires_grad=True)
    with (
        pytest.raises(InjectionError, match=r"left over .* no profile fits such a loop, so wrap"),
        inject(0.1, profile="gm"),
    ):
        torch.autograd.grad((images * weight).square().sum(), weight, create_graph=True)
        images.grad = torch.zeros_like(images)
        torch.optim.SGD([images], lr=0.1).step()


def test_graphs_that_pile_up_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backward, "_MOST_LIVE", 5)
    images, weight = torch.ones(2, 3, requires_grad=True), torch.ones(3, requires_grad=True)
    with pytest.raises(InjectionError, match=r"6 gradients .* wait"), inject(0.1, profile="gm"):
        for _ in range(10):
            torch.autograd.grad((images * weight).pow(3).sum(), weight, create_graph=True)


@settings(deadline=None, max_examples=30)
@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    classes=st.lists(st.floats(0.5, 2), min_size=1, max_size=4),
    as_list=st.booleans(),
    seed_given=st.booleans(),
)
def test_any_backward_gets_the_sum_of_norms(
    sizes: list[int], classes: list[float], as_list: bool, seed_given: bool
) -> None:
    x = torch.full((1, 1), 0.7, requires_grad=True)
    weights = [torch.full((n,), 0.5, requires_grad=True) for n in sizes]

    def matched() -> tuple[Tensor, Tensor]:
        total, norms = torch.zeros(()), []
        for factor in classes:
            loss = sum(((factor * x * w).sin() * x).sum() for w in weights)
            gs = torch.autograd.grad(loss, weights, create_graph=True)
            norms.append(torch.cat([g.flatten() for g in gs]).norm())
            total = total + sum(g.square().sum() for g in gs)
        return total, torch.stack(norms).sum()

    total, norm = matched()
    (expected,) = torch.autograd.grad(total + 0.25 * norm, x)
    with inject(0.25, profile="gm"):
        total, _ = matched()
        seed = torch.ones(()) if seed_given else None
        if as_list:
            torch.autograd.backward([total], None if seed is None else [seed])
        else:
            total.backward(seed)
    torch.testing.assert_close(x.grad, expected)


def test_gradients_of_real_images_do_not_count() -> None:
    step = Matching()
    with inject(0.5, profile="gm", reduction="mean") as record:
        real = step.matched(torch.ones(2, 1, 2)).detach()
        (step.matched() + real).backward()
    step.check(record)


def test_gradients_that_are_only_logged_do_not_count() -> None:
    step = Matching()
    with inject(0.5, profile="gm", reduction="mean") as record:
        loss = step.matched()
        step.matched()
        loss.backward()
    step.check(record)


def test_other_losses_that_go_backward_first_do_not_take_the_term() -> None:
    step = Matching()
    with inject(0.5, profile="gm") as record:
        loss = step.matched()
        step.images.square().mean().backward()
        step.images.grad = None
        loss.backward()
    step.check(record)


def test_a_gradient_penalty_of_another_network_does_not_count() -> None:
    step, critic = Matching(), torch.nn.Linear(3, 1)
    with inject(0.5, profile="gm") as record:
        x = torch.ones(2, 3, requires_grad=True)
        (g,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
        g.norm().backward()
        step.matched().backward()
    step.check(record)


def test_image_gradients_may_be_asked_for_instead_of_going_backward() -> None:
    step = Matching()
    with inject(0.5, profile="gm") as record:
        (step.images.grad,) = torch.autograd.grad(step.matched(), step.images)
    step.check(record)


def test_a_trajectory_of_detached_steps_is_not_taken_for_networks() -> None:
    step = Matching()
    with pytest.raises(InjectionError, match="use the profile 'tm'"), inject(0.5, profile="gm"):
        total = step.matched()
        step.weight = (step.weight - 0.1).detach().requires_grad_()
        (total + step.matched()).backward()


def test_every_lam_of_a_schedule_is_checked() -> None:
    step = Matching()
    with (
        pytest.raises(ValueError, match="at least 0, got -5"),
        inject(lambda t: -5.0 * t, profile="gm"),
    ):
        for _ in range(2):
            step.weight = torch.ones(2, requires_grad=True)
            step.matched().backward()


def test_steps_that_a_script_miscounts_are_told() -> None:
    step = Matching()
    told = "2 image gradients were expected, 1 came"
    with pytest.raises(InjectionError, match=told), inject(0.5, profile="tesla"):
        step.matched()
        step.matched()
        torch.autograd.grad(step.matched(), step.images)
        torch.optim.SGD([step.images], lr=0.1).step()


def test_label_gradients_of_their_own_leave_the_term_to_the_images() -> None:
    def gradient(lam: float) -> Tensor:
        torch.manual_seed(0)
        images = torch.randn(3, 1, 4, requires_grad=True)
        labels = torch.randn(3, 4, requires_grad=True)
        weight = torch.ones(4, requires_grad=True)

        def inner() -> Tensor:
            loss = ((images[:, 0] * weight) * labels).square().sum()
            return torch.autograd.grad(loss, weight, create_graph=True)[0]

        with inject(lam, profile="tesla"):
            inner()
            product = inner().sum()
            torch.autograd.grad(product, labels, retain_graph=True)
            (g,) = torch.autograd.grad(product, images)
        return g

    assert not torch.allclose(gradient(0.5), gradient(0.0))

from __future__ import annotations

import copy
import gc
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from injected import SCRIPTS, STANDINS, matched_by_hand, run, unrolled_by_hand
from torch import Tensor
from torch.autograd import grad as early_grad
from torch.nn.functional import cross_entropy

from sdc_ext import LogRamp, inject, with_sdc
from sdc_ext.errors import DivergenceError, InjectionError
from sdc_ext.injection import corrections

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


@pytest.mark.parametrize("profile", SCRIPTS)
def test_the_loss_that_the_script_sees_is_left_alone(
    profile: str, capsys: pytest.CaptureFixture[str]
) -> None:
    losses = []
    for lam in (0, 10.0):
        with inject(lam):
            run(profile, "--Iteration", "1")
        losses.append(capsys.readouterr().out)
    assert "loss = " in losses[0]
    assert losses[0] == losses[1]


def test_networks_that_are_trained_on_the_way_are_left_alone() -> None:
    def trained(lam: float) -> list[Tensor]:
        torch.manual_seed(0)
        images = torch.randn(3, 1, 4, 4, requires_grad=True)
        labels = torch.arange(3)
        net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
        with inject(lam, profile="gm"):
            loss = cross_entropy(net(images), labels)
            g = torch.autograd.grad(loss, net.parameters(), create_graph=True)
            sys.modules["utils"].train(evaluated := copy.deepcopy(net), images, labels, lr=0.1)
            sum(t.square().sum() for t in g).backward()
        return [p.grad for p in evaluated.parameters()]

    for plain, corrected in zip(trained(0), trained(1.0), strict=True):
        assert torch.equal(plain, corrected)


@pytest.mark.parametrize("failing", [False, True])
def test_everything_is_put_back(failing: bool) -> None:
    scale = torch.amp.GradScaler.scale
    before = (torch.autograd.grad, torch.autograd.backward, torch.optim.Optimizer.__init__)
    with pytest.raises(KeyError) if failing else pytest.raises(InjectionError), inject(0.1):
        assert torch.autograd.grad is not before[0]
        if failing:
            raise KeyError
    assert before == (
        torch.autograd.grad,
        torch.autograd.backward,
        torch.optim.Optimizer.__init__,
    )
    assert torch.amp.GradScaler.scale is scale


def test_no_second_injection() -> None:
    with pytest.raises(InjectionError, match="already active"), inject(0), inject(0):
        pass
    with inject(0):
        run("gm")


@pytest.mark.parametrize("profile", SCRIPTS)
@pytest.mark.parametrize("strength", [{"lam": 0}, {"lam": 0.1}, {"share": 0.1}])
def test_no_graph_outlives_its_iteration(profile: str, strength: dict[str, float]) -> None:
    def graphs() -> int:
        gc.collect()
        return sum(issubclass(type(o), Tensor) and o.grad_fn is not None for o in gc.get_objects())

    before = graphs()
    with inject(**strength) as record:
        run(profile, "--Iteration", "4")
        assert graphs() == before
    assert len(record.steps) == 4


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


def test_an_image_step_without_correction_is_an_error() -> None:
    images = torch.zeros(2, 1, 3, 3, requires_grad=True)
    optimizer = torch.optim.SGD([images], lr=0.1)
    with (
        pytest.raises(InjectionError, match="updated without a correction"),
        inject(0.1, profile="gm"),
    ):
        images.sum().backward()
        optimizer.step()


def test_images_of_a_loop_without_such_gradients_are_an_error_at_once() -> None:
    images = torch.zeros(2, 1, 3, 3, requires_grad=True)
    optimizer = torch.optim.SGD([images], lr=0.1)
    with pytest.raises(InjectionError, match="nothing was corrected"), inject(0.1):
        images.sum().backward()
        optimizer.step()


def test_captures_left_at_a_step_are_an_error() -> None:
    images = torch.zeros(2, 1, 3, 3, requires_grad=True)
    weight = torch.ones(3, requires_grad=True)
    with (
        pytest.raises(InjectionError, match=r"left over .* 'tm' or 'tesla'"),
        inject(0.1, profile="gm"),
    ):
        torch.autograd.grad((images * weight).square().sum(), weight, create_graph=True)
        images.grad = torch.zeros_like(images)
        torch.optim.SGD([images], lr=0.1).step()


def test_graphs_that_pile_up_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corrections, "_MOST_LIVE", 5)
    images, weight = torch.ones(2, 3, requires_grad=True), torch.ones(3, requires_grad=True)
    with pytest.raises(InjectionError, match=r"6 gradients .* wait"), inject(0.1, profile="gm"):
        for _ in range(10):
            torch.autograd.grad((images * weight).pow(3).sum(), weight, create_graph=True)


def test_no_correction_at_all_is_an_error() -> None:
    with pytest.raises(InjectionError, match="nothing was corrected"), inject(0.1, profile="tm"):
        pass


def test_names_bound_early_are_explained() -> None:
    weight = torch.ones(3, requires_grad=True)
    with pytest.raises(InjectionError, match=r"from torch\.autograd import grad"), inject(0.1):
        early_grad(weight.pow(3).sum(), weight, create_graph=True)


def test_lenient_injection_warns() -> None:
    with (
        pytest.warns(UserWarning, match="use the profile 'tm'"),
        inject(0.1, profile="gm", strict=False) as record,
    ):
        run("tm", "--Iteration", "1")
    assert len(record.steps) == 1


def test_divergence_stops_before_the_images_are_spoilt() -> None:
    with (
        pytest.raises(DivergenceError, match="lower lam or the learning rate"),
        inject(0.1) as record,
    ):
        run("gm", "--Iteration", "40", "--lr_img", "inf")
    assert 0 < len(record.steps) < 40
    assert record.images.isfinite().all()


def mixed_precision(scale: float, lam: float, way: str) -> tuple[Tensor, float]:
    """The image gradient of one step under a loss scale, unscaled again, and the share."""
    images = torch.full((2, 2, 2), 0.3, requires_grad=True)
    weight = torch.ones(2, requires_grad=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    with inject(lam, profile="gm") as record:
        loss = torch.tanh(images * weight).square().sum()
        if way == "scaled inner loss":
            (g,) = torch.autograd.grad(scaler.scale(loss), weight, create_graph=True)
            g = g / scale
        else:
            (g,) = torch.autograd.grad(loss, weight, create_graph=True)
        outer = g.square().sum()
        scaled = scaler.scale([outer])[0] if way == "list" else scaler.scale(outer)
        scaled.backward()
    return images.grad / scale, record.steps[0].share


@pytest.mark.parametrize("way", ["scaled outer loss", "scaled inner loss", "list"])
def test_a_loss_scale_changes_nothing(way: str) -> None:
    (plain, _), (corrected, share) = (mixed_precision(1.0, lam, way) for lam in (0.0, 0.5))
    assert share == pytest.approx(float((corrected - plain).norm() / plain.norm()))
    torch.testing.assert_close(mixed_precision(1024.0, 0.5, way), (corrected, share))


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
    norms: list[Tensor] = []
    with inject(0.25, profile="gm"):
        total = torch.zeros(())
        for factor in classes:
            loss = sum(((factor * x * w).sin() * x).sum() for w in weights)
            gs = torch.autograd.grad(loss, weights, create_graph=True)
            norms.append(torch.cat([g.flatten() for g in gs]).norm())
            total = total + sum(g.square().sum() for g in gs)
        (expected,) = early_grad(total + 0.25 * torch.stack(norms).sum(), x, retain_graph=True)
        seed = torch.ones(()) if seed_given else None
        if as_list:
            torch.autograd.backward([total], None if seed is None else [seed])
        else:
            total.backward(seed)
    torch.testing.assert_close(x.grad, expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lam": -1.0}, "at least 0"),
        ({"lam": float("nan")}, "finite"),
        ({"share": -0.1}, "share must be finite and at least 0, got -0.1"),
        ({"share": lambda t: t - 1.0}, "share must be finite and at least 0, got -1.0"),
        ({"lam": 0.1, "share": 0.1}, "lam and share exclude each other"),
        ({"profile": "dc"}, "choose from auto, gm, tesla, tm"),
        ({"norm": "l1"}, "choose from l2, l2_squared"),
        ({"reduction": "max"}, "choose from mean, sum"),
        ({"scale": 0.0}, "scale must be finite and above 0, got 0.0"),
    ],
)
def test_bad_choices(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        inject(**options)


class Matching:
    """A gradient-matching step in small, to be varied."""

    def __init__(self) -> None:
        self.images = torch.full((2, 1, 2), 0.3, requires_grad=True)
        self.weight = torch.ones(2, requires_grad=True)

    def loss(self, x: Tensor) -> Tensor:
        return torch.tanh(x * self.weight).square().sum()

    def matched(self, images: Tensor | None = None) -> Tensor:
        x = self.images if images is None else images
        (g,) = torch.autograd.grad(self.loss(x), iter([self.weight]), create_graph=True)
        return g.square().sum()

    def norm_gradient(self) -> Tensor:
        (g,) = early_grad(self.loss(self.images), self.weight, create_graph=True)
        return early_grad(g.norm(), self.images)[0]

    def plain_gradient(self) -> Tensor:
        (g,) = early_grad(self.loss(self.images), self.weight, create_graph=True)
        return early_grad(g.square().sum(), self.images)[0]

    def check(self, record: Any, captured: int = 1) -> None:
        """The term went in once, with weight 0.5."""
        expected = self.plain_gradient() + 0.5 * self.norm_gradient()
        torch.testing.assert_close(self.images.grad, expected)
        assert [step.captured for step in record.steps] == [captured]


def test_inputs_may_be_iterators() -> None:
    step = Matching()
    with inject(0.5, profile="gm") as record:
        torch.autograd.backward(iter([step.matched()]))
    step.check(record)


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


def test_images_may_be_parameters() -> None:
    step = Matching()
    step.images = torch.nn.Parameter(step.images.detach())
    rate = torch.nn.Parameter(torch.tensor(0.1))
    with inject(0.5, profile="gm") as record:
        optimizer = torch.optim.SGD([step.images, rate], lr=0.0)
        step.matched().backward()
        optimizer.step()
    step.check(record)
    assert torch.equal(record.images, step.images)


def test_optimisers_may_share_a_step_and_be_made_anew() -> None:
    first, second = Matching(), Matching()
    with inject(LogRamp(0.1, 0.4, 2), profile="gm") as record:
        for _ in range(3):
            optimizers = [torch.optim.SGD([step.images], lr=0.1) for step in (first, second)]
            first.weight = second.weight = torch.ones(2, requires_grad=True)
            (first.matched() + second.matched()).backward()
            for optimizer in optimizers:
                optimizer.step()
    assert [step.lam for step in record.steps] == pytest.approx([0.1, 0.2, 0.4])


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


def test_names_bound_inside_do_nothing_afterwards() -> None:
    step = Matching()
    with inject(0.5, profile="gm"):
        from torch.autograd import grad as bound_inside

        step.matched().backward()
    for _ in range(3):
        bound_inside(step.loss(step.images), step.weight, create_graph=True)
    with inject(0.5, profile="gm") as record:
        bound_inside(step.loss(step.images), step.weight, create_graph=True)
        step.matched().backward()
    assert [s.captured for s in record.steps] == [1]


def test_an_injection_serves_once() -> None:
    step, injection = Matching(), inject(0.5, profile="gm")
    with injection:
        step.matched().backward()
    with pytest.raises(InjectionError, match=r"call inject\(\) again"), injection:
        pass


def test_a_loop_that_corrects_itself_is_not_corrected_twice() -> None:
    loss = with_sdc(lambda g: g.square().sum(), 0.5)
    gradient = [torch.ones(2, requires_grad=True).clone()]
    with (
        pytest.raises(InjectionError, match="already corrects its loss by with_sdc"),
        inject(0.5, profile="gm"),
    ):
        loss(gradient)


def test_values_of_a_corrected_loss_are_not_corrected_twice() -> None:
    loss = with_sdc(lambda g: g.square().sum(), 0.5)
    gradient = torch.ones(2, requires_grad=True)
    with (
        pytest.raises(InjectionError, match="already corrects its loss by with_sdc"),
        inject(0.5, profile="gm"),
    ):
        loss.corrected([gradient.norm()], gradient)


def test_lenient_injection_goes_on() -> None:
    images = torch.zeros(2, 1, 3, 3, requires_grad=True)
    weight = torch.ones(3, requires_grad=True)
    with (
        pytest.warns(UserWarning, match="left over|without a correction|nothing was corrected"),
        inject(0.1, profile="gm", strict=False) as record,
    ):
        optimizer = torch.optim.SGD([images], lr=0.1)
        for _ in range(3):
            torch.autograd.grad((images * weight).square().sum(), weight, create_graph=True)
            images.grad = torch.zeros_like(images)
            optimizer.step()
    assert record.steps == []


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

"""What an injection intercepts, leaves alone and puts back, and what it refuses."""

from __future__ import annotations

import copy
import gc
import sys
from typing import Any

import pytest
import torch
from injected import SCRIPTS, Matching, run
from torch import Tensor
from torch.autograd import backward as early_backward
from torch.autograd import grad as early_grad
from torch.nn.functional import cross_entropy

from sdc_ext import LogRamp, inject, with_sdc
from sdc_ext.errors import DivergenceError, InjectionError

pytestmark = pytest.mark.usefixtures("environment")


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
    before = (torch.autograd._engine_run_backward, torch.optim.Optimizer.__init__)
    with pytest.raises(KeyError) if failing else pytest.raises(InjectionError), inject(0.1):
        assert torch.autograd._engine_run_backward is not before[0]
        if failing:
            raise KeyError
    assert before == (torch.autograd._engine_run_backward, torch.optim.Optimizer.__init__)
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


def test_no_correction_at_all_is_an_error() -> None:
    with pytest.raises(InjectionError, match="nothing was corrected"), inject(0.1, profile="tm"):
        pass


def test_names_bound_early_are_observed() -> None:
    step = Matching()
    with inject(0.5, profile="gm") as record:
        (g,) = early_grad(step.loss(step.images), step.weight, create_graph=True)
        early_backward(g.square().sum())
    step.check(record)


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
        if way == "sum":
            scaled = scaler.scale(outer / 4) + 3 * scaler.scale(outer) / 4
        if way == "together":
            torch.autograd.backward([outer * 0, scaled])
        else:
            scaled.backward()
    return images.grad / scale, record.steps[0].share


@pytest.mark.parametrize(
    "way", ["scaled outer loss", "scaled inner loss", "list", "sum", "together"]
)
def test_a_loss_scale_changes_nothing(way: str) -> None:
    (plain, _), (corrected, share) = (mixed_precision(1.0, lam, way) for lam in (0.0, 0.5))
    assert share == pytest.approx(float((corrected - plain).norm() / plain.norm()))
    torch.testing.assert_close(mixed_precision(1024.0, 0.5, way), (corrected, share))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lam": -1.0}, "at least 0"),
        ({"lam": float("nan")}, "finite"),
        ({"share": -0.1}, "share must be finite and at least 0, got -0.1"),
        ({"share": lambda t: t - 1.0}, "share must be finite and at least 0, got -1.0"),
        ({"lam": 0.1, "share": 0.1}, "lam and share exclude each other"),
        ({"profile": "dc"}, "choose from auto, dm, gm, tesla, tm"),
        ({"norm": "l1"}, "choose from l2, l2_squared"),
        ({"norm": None}, "unknown norm None: choose from l2, l2_squared"),
        ({"reduction": "max"}, "choose from mean, sum"),
        ({"scale": 0.0}, "scale must be finite and above 0, got 0.0"),
    ],
)
def test_bad_choices(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        inject(**options)


def test_inputs_may_be_iterators() -> None:
    step = Matching()
    with inject(0.5, profile="gm") as record:
        torch.autograd.backward(iter([step.matched()]))
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

"""Calls of a corrected loss: schedules, memory, refusals and warnings."""

from __future__ import annotations

import gc
import math
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from losses import LAM, computed, leaf, match_loss, param_loss, real, synthetic, two
from torch import Tensor, nn

from sdc_ext import LogRamp, with_sdc


@pytest.mark.parametrize("context", [torch.enable_grad, torch.no_grad])
def test_calls_for_logging_add_nothing(context: Callable[[], Any]) -> None:
    gw_syn = [g if context is torch.no_grad else g.detach() for g in synthetic()]
    wrapped = with_sdc(match_loss, lam=lambda iteration: LAM)
    with context():
        loss = wrapped(gw_syn, real())
        assert torch.equal(loss, match_loss(gw_syn, real()))
    assert wrapped.difficulty.item() == pytest.approx(5)
    assert wrapped.iteration == 0


def test_what_was_last_seen_can_be_logged() -> None:
    wrapped = with_sdc(match_loss, LAM)
    assert math.isnan(wrapped.matching) and math.isnan(wrapped.difficulty)
    gw_syn = synthetic()
    wrapped(gw_syn, real())
    assert wrapped.matching.item() == pytest.approx(match_loss(gw_syn, real()).item())
    assert wrapped.difficulty.item() == pytest.approx(5)
    assert wrapped.lam == LAM
    assert not wrapped.matching.requires_grad and not wrapped.difficulty.requires_grad
    wrapped([computed(1.0)], [torch.ones(1)])
    assert (wrapped.matching.item(), wrapped.difficulty.item()) == (0, 1)


@pytest.mark.parametrize("schedule", [LogRamp(0.1, 0.4, steps=2), lambda t: 0.1 * 2 ** min(t, 2)])
def test_schedule_advances_with_each_corrected_call(schedule: Callable[[int], float]) -> None:
    wrapped = with_sdc(two, schedule)
    assert wrapped.lam == pytest.approx(0.1)
    terms = [wrapped(synthetic()).item() - 2 for _ in range(4)]
    assert terms == pytest.approx([0.5, 1.0, 2.0, 2.0])
    assert wrapped.lam == pytest.approx(0.4)
    assert wrapped.iteration == 4


def test_schedule_at_zero_counts_iterations_too() -> None:
    wrapped = with_sdc(two, lambda t: 0.0 if t < 2 else LAM)
    assert [wrapped(synthetic()).item() for _ in range(3)] == pytest.approx([2, 2, 2 + LAM * 5])


def test_iteration_that_was_set_is_not_counted_on() -> None:
    wrapped = with_sdc(two, lambda t: 0.1 * t)
    wrapped(synthetic())
    lams = []
    for iteration in (3, 7):
        wrapped.iteration = iteration
        for _ in range(2):
            wrapped(synthetic())
            lams.append(wrapped.lam)
    assert lams == pytest.approx([0.3, 0.3, 0.7, 0.7])
    assert wrapped.iteration == 7


class Traced(torch.autograd.Function):
    """The identity; its node in the graph holds ``box``, whose end a weak reference tells."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, box: set[int]) -> Tensor:
        ctx.box = box
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


class Box:
    pass


def traced() -> tuple[list[Tensor], weakref.ref[Box]]:
    box = Box()
    return [Traced.apply(leaf(3.0, 4.0), box)], weakref.ref(box)


def failing_loss(*_: Any) -> Tensor:
    raise RuntimeError("lost")


@pytest.mark.parametrize("observed", [False, True])
@pytest.mark.parametrize("lam", [0.0, LAM])
def test_no_graph_outlives_the_call(lam: float, observed: bool) -> None:
    wrapped = with_sdc(lambda gw_syn: gw_syn[0].square().sum(), lam)
    gradients, graph = traced()
    if observed:
        wrapped.observe(gradients)
    loss = wrapped(gradients)
    del gradients
    gc.collect()
    assert graph() is not None, "the loss itself needs the graph until it is dropped"
    del loss
    gc.collect()
    assert graph() is None


def test_no_graph_outlives_a_call_that_raised() -> None:
    wrapped = with_sdc(failing_loss, LAM)
    gradients, graph = traced()
    wrapped.observe(gradients)
    with pytest.raises(RuntimeError, match="lost"):
        wrapped(torch.zeros(1))
    del gradients
    gc.collect()
    assert graph() is None


@pytest.mark.parametrize(
    ("lam", "error", "message"),
    [
        (-0.1, ValueError, "lam must be finite and at least 0, got -0.1"),
        (math.nan, ValueError, "lam must be finite and at least 0, got nan"),
        (math.inf, ValueError, "lam must be finite and at least 0, got inf"),
        (True, TypeError, "lam must be a number or a schedule, got bool"),
        ("0.1", TypeError, "lam must be a number or a schedule, got str"),
        (lambda t: -1.0, ValueError, "lam must be finite and at least 0, got -1.0"),
    ],
)
def test_bad_lam_is_refused_at_once(lam: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        with_sdc(match_loss, lam)


def test_schedule_that_turns_bad_is_refused_when_it_does() -> None:
    wrapped = with_sdc(two, lambda t: math.nan if t else LAM)
    wrapped(synthetic())
    with pytest.raises(ValueError, match="got nan"):
        wrapped(synthetic())


@pytest.mark.parametrize("not_a_loss", [torch.tensor(1.0), 3.0, None])
def test_loss_that_cannot_be_called_is_refused(not_a_loss: Any) -> None:
    name = type(not_a_loss).__name__
    with pytest.raises(TypeError, match=f"loss_fn must be callable, got {name}"):
        with_sdc(not_a_loss, LAM)


def test_unknown_norm_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown norm 'l1': choose from l2, l2_squared"):
        with_sdc(match_loss, LAM, norm="l1")  # type: ignore[arg-type]


@pytest.mark.parametrize("empty", [[], (), {}, [None], {"weight": None}])
def test_no_gradients_at_all_are_refused(empty: Any) -> None:
    with pytest.raises(ValueError, match="no gradients to penalise, because the coll"):
        with_sdc(two, LAM)(empty)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            (torch.zeros(2),),
            ValueError,
            r"pass grads=0 if it is .* or .* to .observe\(\)",
        ),
        ((), ValueError, "finds no argument 0 in this call, which has 0 positional"),
        ((1.0,), TypeError, "finds no gradients, because the first argument is a float"),
        (("gw_syn",), TypeError, "finds no gradients, because the first argument is a str"),
        (([1.0],), TypeError, "gradients must be tensors, got a float among them"),
    ],
)
def test_what_is_no_gradient_is_refused(
    arguments: tuple[Any, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        with_sdc(two, LAM)(*arguments)


@pytest.mark.parametrize("grads", ["gw_sin", 3])
def test_gradients_that_are_not_in_the_call_are_refused(grads: int | str) -> None:
    message = r"finds no argument .* which has 1 positional arguments and \['gw_real'\] keywords"
    with pytest.raises(ValueError, match=message):
        with_sdc(match_loss, LAM, grads=grads)(synthetic(), gw_real=real())


@pytest.mark.parametrize("returned", [1.0, None, (torch.zeros(()),)])
def test_loss_that_is_no_tensor_is_refused(returned: Any) -> None:
    name = type(returned).__name__
    with pytest.raises(TypeError, match=f"the wrapped loss returned a {name}"):
        with_sdc(lambda gw_syn: returned, LAM)(synthetic())


def test_observing_is_refused_where_grads_names_an_argument() -> None:
    wrapped = with_sdc(match_loss, LAM, grads="gw_syn")
    with pytest.raises(ValueError, match=r"leave grads= out, and show .* to .observe\(\)"):
        wrapped.observe(synthetic())
    with pytest.raises(ValueError, match=r"leave grads= out, and show .* to .observe\(\)"):
        wrapped.observe_norms([leaf(1.0)[0]])


def noted(call: Callable[[], object]) -> list[str]:
    """The warnings of a call; each must name this file, where the user's line is."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    assert {one.filename for one in caught} <= {__file__}
    return [str(one.message) for one in caught]


def test_gradients_in_the_wrong_order_are_reported_once() -> None:
    wrapped = with_sdc(match_loss, LAM)
    (said,) = noted(lambda: wrapped(real(), synthetic()))
    assert "nothing is corrected, because the gradients have no graph" in said
    assert "pass grads=1 if those are the synthetic ones" in said
    assert noted(lambda: wrapped(real(), synthetic())) == []
    named = with_sdc(match_loss, LAM, grads="gw_syn")
    (said,) = noted(lambda: named(gw_syn=real(), gw_real=synthetic()))
    assert "pass grads='gw_real'" in said


def test_detached_observations_are_reported_once() -> None:
    wrapped = with_sdc(param_loss, LAM)

    def step() -> None:
        wrapped.observe([g.detach() for g in synthetic()])
        wrapped(leaf(1.0, 2.0), torch.zeros(2).double())

    (said,) = noted(step)
    assert "because the observed gradients have no graph although the loss has one: show" in said
    assert noted(step) == []


@pytest.mark.parametrize("collect", [list, tuple, lambda given: dict(enumerate(given))])
def test_parameters_in_the_place_of_gradients_are_reported_once(
    collect: Callable[[Any], Any],
) -> None:
    wrapped = with_sdc(lambda student: torch.ones(()), LAM)
    parameters = collect(nn.Linear(2, 2).parameters())
    (said,) = noted(lambda: wrapped(parameters))
    assert "the first argument holds parameters" in said and "to .observe() before" in said
    assert noted(lambda: wrapped(parameters)) == []
    assert noted(lambda: with_sdc(two, LAM)([*synthetic(), leaf(1.0)])) == []


def test_observations_of_an_iteration_without_a_loss_are_left_out_and_reported() -> None:
    wrapped = with_sdc(param_loss, LAM)
    arguments = (leaf(1.0, 2.0), torch.zeros(2).double())
    wrapped.iteration = 0
    wrapped.observe([computed(30.0, 40.0)])
    wrapped.iteration = 1
    (said,) = noted(lambda: wrapped.observe([computed(3.0, 4.0)]))
    assert "1 gradient was observed in iteration 0 and left out" in said
    wrapped.observe([computed(0.0, 7.0)])
    assert wrapped(*arguments).item() == pytest.approx(5 + LAM * 6)


def test_iteration_may_be_set_after_the_observations() -> None:
    wrapped = with_sdc(param_loss, LAM)
    for iteration in range(3):
        wrapped.observe([computed(3.0, 4.0)])
        wrapped.observe([computed(0.0, 7.0)])
        wrapped.iteration = iteration
        loss = wrapped(leaf(1.0, 2.0), torch.zeros(2).double())
        assert loss.item() == pytest.approx(5 + LAM * 6)


@pytest.mark.parametrize("shape", [(3,), (2, 2), (0,)])
def test_loss_that_is_no_scalar_is_refused(shape: tuple[int, ...]) -> None:
    wrapped = with_sdc(lambda gw_syn: torch.zeros(shape), LAM)
    with pytest.raises(ValueError, match=r"returned the shape \(.*\), but .* take its mean in"):
        wrapped(synthetic())

"""The correction as a training loop meets it: its value and its derivative."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from losses import (
    LAM,
    Distances,
    computed,
    leaf,
    match_loss,
    param_loss,
    real,
    real_first,
    synthetic,
    two,
    weighted,
)
from torch import Tensor, nn

from sdc_ext import with_sdc
from sdc_ext.regularizer import gradient_norm


def test_zero_lam_returns_what_the_loss_returns() -> None:
    returned: list[Tensor] = []

    def recorded(gw_syn: Sequence[Tensor], gw_real: Sequence[Tensor]) -> Tensor:
        returned.append(match_loss(gw_syn, gw_real))
        return returned[-1]

    plain, wrapped = synthetic(), synthetic()
    loss = with_sdc(recorded, lam=0)(wrapped, real())
    reference = match_loss(plain, real())
    assert loss is returned[0]
    assert torch.equal(loss, reference)
    for ours, expected in zip(
        torch.autograd.grad(loss, wrapped), torch.autograd.grad(reference, plain), strict=True
    ):
        assert torch.equal(ours, expected)


@pytest.mark.parametrize(
    "collect",
    [
        lambda a, b: [a, b],
        lambda a, b: (a, b),
        lambda a, b: {"weight": a, "bias": b},
        lambda a, b: [None, a, None, b],
        lambda a, b: {"weight": a, "unused": None, "bias": b},
        lambda a, b: [a.reshape(2, 1, 1), b.reshape(())],
    ],
    ids=["list", "tuple", "dict", "list with None", "dict with None", "shapes"],
)
def test_term_is_one_norm_over_any_collection(collect: Callable[[Tensor, Tensor], Any]) -> None:
    a, b = synthetic()
    loss = with_sdc(two, LAM)(collect(a, b))
    loss.backward()
    assert loss.item() == pytest.approx(2 + LAM * 5, rel=1e-15)
    torch.testing.assert_close(a.grad, LAM * a.detach() / 5)
    torch.testing.assert_close(b.grad, LAM * b.detach() / 5)


def test_flat_tensor_is_a_gradient_where_grads_says_so() -> None:
    flat = leaf(3.0, 4.0)
    loss = with_sdc(param_loss, LAM, grads=0)(flat, torch.zeros(2).double())
    loss.backward()
    assert loss.item() == pytest.approx(25 + LAM * 5)
    torch.testing.assert_close(flat.grad, 2 * flat.detach() + LAM * flat.detach() / 5)


@pytest.mark.parametrize(
    ("loss_fn", "grads", "order", "keywords"),
    [
        (match_loss, None, ("gw_syn", "gw_real"), ()),
        (match_loss, None, ("gw_syn",), ("gw_real",)),
        (match_loss, None, (), ("gw_syn", "gw_real")),
        (match_loss, None, (), ("gw_real", "gw_syn")),
        (match_loss, 0, (), ("gw_real", "gw_syn")),
        (match_loss, "gw_syn", ("gw_syn", "gw_real"), ()),
        (match_loss, "gw_syn", (), ("gw_real", "gw_syn")),
        (real_first, 1, ("gw_real", "gw_syn"), ()),
        (real_first, 1, ("gw_real",), ("gw_syn",)),
        (real_first, 1, (), ("gw_syn", "gw_real")),
        (real_first, "gw_syn", ("gw_real", "gw_syn"), ()),
        (real_first, "gw_syn", (), ("gw_syn", "gw_real")),
        (weighted, 1, (), ("gw_syn", "gw_real")),
    ],
)
def test_gradients_are_found_however_they_are_passed(
    loss_fn: Callable[..., Tensor],
    grads: int | str | None,
    order: tuple[str, ...],
    keywords: tuple[str, ...],
) -> None:
    given_ = {"gw_syn": synthetic(), "gw_real": real()}
    wrapped = with_sdc(loss_fn, LAM, grads=grads)
    loss = wrapped(*(given_[name] for name in order), **{name: given_[name] for name in keywords})
    assert loss.item() == pytest.approx(match_loss(**given_).item() + LAM * 5)


@pytest.mark.parametrize(
    "loss_fn",
    [
        Distances(2.0).match,
        Distances(2.0),
        functools.partial(match_loss, weight=2.0),
        lambda syn, real: match_loss(syn, real, 2.0),
        lambda *both: match_loss(*both, weight=2.0),
    ],
    ids=["method", "object", "partial", "lambda", "varargs"],
)
def test_any_callable_can_be_wrapped(loss_fn: Callable[..., Tensor]) -> None:
    gw_syn = synthetic()
    loss = with_sdc(loss_fn, LAM)(gw_syn, real())
    assert loss.item() == pytest.approx(match_loss(gw_syn, real(), 2.0).item() + LAM * 5)


@pytest.mark.parametrize("loss_fn", [torch.dist, nn.MSELoss(reduction="sum")])
def test_callables_without_a_signature_take_gradients_by_position(
    loss_fn: Callable[..., Tensor],
) -> None:
    flat, target = leaf(3.0, 4.0), torch.ones(2, dtype=torch.float64)
    wrapped = with_sdc(loss_fn, LAM, grads=0)
    assert wrapped(flat, target).item() == pytest.approx(loss_fn(flat, target).item() + LAM * 5)


def test_builtin_takes_gradients_by_the_keyword_they_are_passed_with() -> None:
    flat, target = leaf(3.0, 4.0), torch.ones(2, dtype=torch.float64)
    wrapped = with_sdc(torch.dist, LAM, grads="input")
    expected = torch.dist(flat, target).item() + LAM * 5
    assert wrapped(other=target, input=flat).item() == pytest.approx(expected)
    with pytest.raises(ValueError, match="finds no argument 'input' in this call, which has 2 pos"):
        wrapped(flat, target)


def test_gradients_among_arbitrary_keywords_must_be_named() -> None:
    def keyword_loss(**gradients: Tensor) -> Tensor:
        return F.mse_loss(gradients["syn"], gradients["real"])

    arguments = {"syn": leaf(3.0, 4.0), "real": torch.ones(2, dtype=torch.float64)}
    expected = keyword_loss(**arguments).item() + LAM * 5
    assert with_sdc(keyword_loss, LAM, grads="syn")(**arguments).item() == pytest.approx(expected)
    with pytest.raises(ValueError, match="finds no argument"):
        with_sdc(keyword_loss, LAM)(**arguments)


def test_wrapper_keeps_name_doc_and_signature() -> None:
    wrapped = with_sdc(match_loss, LAM)
    assert inspect.signature(wrapped) == inspect.signature(match_loss)
    assert (wrapped.__name__, wrapped.__doc__) == (match_loss.__name__, match_loss.__doc__)


def test_observed_gradients_add_their_mean_norm() -> None:
    student, target = leaf(1.0, 2.0), torch.zeros(2).double()
    wrapped = with_sdc(param_loss, LAM)
    steps = [[leaf(3.0), leaf(4.0)], {"weight": leaf(6.0, 8.0)}, leaf(0.0, 3.0)]
    for gradients in steps:
        wrapped.observe(gradients)
    assert wrapped(student, target).item() == pytest.approx(5 + LAM * (5 + 10 + 3) / 3)


def test_observed_gradients_count_if_the_loss_depends_on_them() -> None:
    image, weight = leaf(1.0, 2.0), leaf(0.5, 0.5)
    path, norms = [weight], []
    wrapped = with_sdc(param_loss, LAM)
    for _ in range(4):
        loss = (image * path[-1]).sum().square()
        (gradient,) = torch.autograd.grad(loss, path[-1], create_graph=True)
        wrapped.observe(gradient)
        norms.append(gradient.norm())
        path.append(path[-1] - 0.1 * gradient)
    target = torch.zeros(2).double()
    matching = param_loss(path[2], target)
    total = wrapped(path[2], target)
    torch.testing.assert_close(total, matching + LAM * torch.stack(norms[:2]).mean())


def test_observed_gradients_may_come_from_an_iterator() -> None:
    weight = torch.ones(2, requires_grad=True)
    match_loss = with_sdc(lambda value: value.sum(), lam=1.0)
    used = 2 * weight
    match_loss.observe(iter([used]))
    match_loss.observe(iter([9 * weight]))  # on which the loss does not depend
    assert match_loss(used).item() == pytest.approx(4 + 8**0.5)


def test_a_call_for_logging_uses_no_observed_gradients_up() -> None:
    student, target = leaf(1.0, 2.0), torch.zeros(2).double()
    wrapped = with_sdc(param_loss, LAM)
    for gradient in (leaf(3.0, 4.0), leaf(6.0, 8.0)):
        wrapped.observe([gradient])
        with torch.no_grad():
            wrapped(student, target)
    assert wrapped(student, target).item() == pytest.approx(5 + LAM * (5 + 10) / 2)
    wrapped.observe([leaf(0.0, 1.0)])  # those before are used up now
    assert wrapped(student, target).item() == pytest.approx(5 + LAM * 1)


def test_observed_gradients_that_no_loss_depends_on_all_count() -> None:
    wrapped = with_sdc(two, LAM)
    for gradient in (leaf(3.0, 4.0), leaf(0.0, 1.0)):
        wrapped.observe([gradient])
    assert wrapped().item() == pytest.approx(2 + LAM * 3)


def test_observed_norms_count_like_observed_gradients() -> None:
    student, target = leaf(1.0, 2.0), torch.zeros(2).double()
    wrapped = with_sdc(param_loss, LAM)
    wrapped.observe([leaf(3.0, 4.0)])
    wrapped.observe_norms(norm for norm in (leaf(10.0)[0], leaf(3.0)[0]))
    loss = wrapped(student, target)
    assert loss.item() == pytest.approx(5 + LAM * (5 + 10 + 3) / 3)
    assert wrapped.difficulty.item() == pytest.approx(6)


def test_observed_gradients_go_before_the_first_argument() -> None:
    wrapped = with_sdc(two, LAM)
    wrapped.observe([leaf(0.0, 7.0)])
    assert wrapped(synthetic()).item() == pytest.approx(2 + LAM * 7)
    assert wrapped(synthetic()).item() == pytest.approx(2 + LAM * 5)


@pytest.mark.parametrize("lam", [0.0, LAM])
def test_observations_are_forgotten_after_the_call(lam: float) -> None:
    student = leaf(1.0, 2.0)
    wrapped = with_sdc(param_loss, lam)
    wrapped.observe([leaf(3.0, 4.0)])
    wrapped(student, torch.zeros(2))
    with pytest.raises(ValueError, match="the first argument is a tensor of the shape"):
        wrapped(student, torch.zeros(2))


def test_observations_are_forgotten_after_a_call_that_raised() -> None:
    wrapped = with_sdc(param_loss, LAM)
    wrapped.observe([leaf(30.0, 40.0)])
    with pytest.raises(RuntimeError, match="size of tensor"):
        wrapped(leaf(1.0, 2.0), torch.zeros(3))
    wrapped.observe([leaf(3.0, 4.0)])
    loss = wrapped(leaf(1.0, 2.0), torch.zeros(2).double())
    assert loss.item() == pytest.approx(5 + LAM * 5)


def test_squared_norm_is_the_mean_of_squares() -> None:
    wrapped = with_sdc(two, LAM, norm="l2_squared")
    first, second = leaf(3.0, 4.0), leaf(1.0)
    wrapped.observe([first])
    wrapped.observe([second])
    loss = wrapped()
    loss.backward()
    assert loss.item() == pytest.approx(2 + LAM * (25 + 1) / 2)
    torch.testing.assert_close(first.grad, LAM * first.detach())
    torch.testing.assert_close(second.grad, LAM * second.detach())
    assert wrapped.difficulty.item() == pytest.approx(3)


@pytest.mark.parametrize("norm", ["l2", "l2_squared"])
def test_image_gradient_agrees_with_finite_differences(norm: str) -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    parameters = list(network.parameters())
    labels = torch.tensor([0, 1])
    gw_real = [torch.randn_like(p) for p in parameters]
    wrapped = with_sdc(match_loss, 0.7, norm=norm)  # type: ignore[arg-type]

    def loss_of(images: Tensor) -> Tensor:
        loss = F.cross_entropy(network(images), labels)
        return wrapped(torch.autograd.grad(loss, parameters, create_graph=True), gw_real)

    images = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(loss_of, images)


SHAPES = st.lists(st.lists(st.integers(0, 4), max_size=4).map(tuple), min_size=1, max_size=5)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(SHAPES, st.floats(1e-6, 1e3), st.integers(0, 2**31), st.sampled_from([list, tuple, dict]))
def test_term_is_lam_times_the_norm_of_the_concatenation(
    shapes: list[tuple[int, ...]], lam: float, seed: int, kind: type
) -> None:
    generator = torch.Generator().manual_seed(seed)
    gradients = [
        torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_().clone()
        for shape in shapes
    ]
    named = {str(i): g for i, g in enumerate(gradients)}
    term = with_sdc(two, lam)(named if kind is dict else kind(gradients)) - 2
    norm = torch.cat([g.detach().flatten() for g in gradients]).norm()
    torch.testing.assert_close(term.detach(), lam * norm, rtol=1e-10, atol=1e-14)
    for g, derivative in zip(gradients, torch.autograd.grad(term, gradients), strict=True):
        expected = lam * g.detach() / norm.clamp(min=1e-300)
        torch.testing.assert_close(derivative, expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("norm", ["l2", "l2_squared"])
def test_zero_gradient_gives_zero_term_and_zero_derivative(norm: str) -> None:
    zero, other_zero = computed(0.0, 0.0), computed(0.0)
    loss = with_sdc(two, LAM, norm=norm)([zero, other_zero])  # type: ignore[arg-type]
    loss.backward()
    assert loss.item() == 2
    assert torch.equal(zero.grad, torch.zeros(2).double())
    assert torch.equal(other_zero.grad, torch.zeros(1).double())


def test_zero_tensor_among_others_keeps_their_derivative() -> None:
    zero, other = computed(0.0, 0.0), computed(3.0, 4.0)
    with_sdc(two, LAM)([zero, other]).backward()
    assert torch.equal(zero.grad, torch.zeros(2).double())
    torch.testing.assert_close(other.grad, LAM * other.detach() / 5)


# Squared in half precision, 60000 overflows float16, and 1e-4 falls to zero there.
@pytest.mark.parametrize("value", [60_000.0, 1e-4])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_gradients_neither_overflow_nor_vanish(
    dtype: torch.dtype, value: float
) -> None:
    gradients = [computed(*[value] * 2500, dtype=dtype) for _ in range(2)]
    stored = gradients[0][0].item()
    wrapped = with_sdc(lambda gw_syn: torch.zeros(()), LAM)
    wrapped(gradients).backward()
    assert wrapped.difficulty.dtype == torch.float32
    assert wrapped.difficulty.item() == pytest.approx(stored * math.sqrt(5000), rel=1e-5)
    expected = torch.full((2500,), LAM / math.sqrt(5000), dtype=dtype)
    torch.testing.assert_close(gradients[0].grad, expected)


def test_mixed_precisions_are_normed_together() -> None:
    gradients = [leaf(3.0, dtype=torch.bfloat16), leaf(4.0, dtype=torch.float32)]
    assert gradient_norm(gradients).item() == pytest.approx(5)


@pytest.mark.parametrize(
    ("lam", "needed"),
    [(0, False), (LAM, True), (lambda t: 0.0, True), (lambda t: 0.1 * t, True)],
)
def test_a_graph_is_needed_where_lam_may_be_above_zero(lam: Any, needed: bool) -> None:
    wrapped = with_sdc(two, lam)
    assert wrapped.needs_graph is needed
    wrapped(synthetic())
    assert wrapped.needs_graph is needed


@pytest.mark.parametrize("norm", ["l2", "l2_squared"])
@pytest.mark.parametrize("lam", [0.0, LAM])
def test_corrected_values_are_those_of_a_call(lam: float, norm: Any) -> None:
    called, asked = with_sdc(match_loss, lam, norm=norm), with_sdc(match_loss, lam, norm=norm)
    loss = called(synthetic(), real())
    found = asked.corrected([gradient_norm(synthetic())], synthetic(), gw_real=real())
    assert torch.equal(found.loss, loss)
    assert torch.equal(found.matching, called.matching)
    assert torch.equal(found.difficulty, called.difficulty)
    assert not found.matching.requires_grad and not found.difficulty.requires_grad
    assert math.isnan(asked.matching) and math.isnan(asked.difficulty)


def test_corrected_values_follow_the_schedule_and_leave_observations_alone() -> None:
    wrapped = with_sdc(param_loss, lambda t: LAM * (t + 1))
    arguments = (leaf(1.0, 2.0), torch.zeros(2).double())
    wrapped.observe([leaf(3.0, 4.0)])
    losses = [wrapped.corrected([leaf(10.0)[0]], *arguments).loss.item() for _ in range(2)]
    assert losses == pytest.approx([5 + LAM * 10, 5 + 2 * LAM * 10])
    assert wrapped(*arguments).item() == pytest.approx(5 + 3 * LAM * 5)
    with pytest.raises(ValueError, match="no norms to penalise"):
        wrapped.corrected([], *arguments)


def test_without_lam_even_a_norm_that_is_not_a_number_changes_nothing() -> None:
    wrapped = with_sdc(two, 0.0)
    assert wrapped.corrected([leaf(math.nan)[0]]).loss.item() == 2

"""The correction as a training loop meets it: value, derivative, bookkeeping and refusals."""

from __future__ import annotations

import functools
import gc
import inspect
import math
import subprocess
import sys
import warnings
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sdc_ext import LogRamp, sdc_penalty, with_sdc
from sdc_ext.injection.term import Term
from sdc_ext.regularizer import gradient_norm
from sdc_ext.strength import Strength

LAM = 0.1


def leaf(*values: float, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor(values, dtype=dtype, requires_grad=True)


def computed(*values: float, dtype: torch.dtype = torch.float64) -> Tensor:
    """A tensor with a graph, as a gradient is that ``create_graph`` was asked for."""
    tensor = leaf(*values, dtype=dtype).clone()
    tensor.retain_grad()
    return tensor


def match_loss(gw_syn: Sequence[Tensor], gw_real: Sequence[Tensor], weight: float = 1.0) -> Tensor:
    """A distance with the signature of the originals."""
    return (
        weight
        * torch.stack([(s - r).square().sum() for s, r in zip(gw_syn, gw_real, strict=True)]).sum()
    )


def real_first(gw_real: Sequence[Tensor], gw_syn: Sequence[Tensor]) -> Tensor:
    return match_loss(gw_syn, gw_real)


def two(*_: Any, **__: Any) -> Tensor:
    """A loss that does not depend on its arguments, so that only the term has a derivative."""
    return torch.tensor(2.0, dtype=torch.float64)


def param_loss(student: Tensor, target: Tensor) -> Tensor:
    """A trajectory-matching loss: flat parameters, not gradients, come first."""
    return (student - target).square().sum()


def weighted(
    weight: float = 1.0, gw_syn: Sequence[Tensor] = (), gw_real: Sequence[Tensor] = ()
) -> Tensor:
    return match_loss(gw_syn, gw_real, weight)


class Distances:
    def __init__(self, weight: float) -> None:
        self.weight = weight

    def match(self, gw_syn: Sequence[Tensor], gw_real: Sequence[Tensor]) -> Tensor:
        return match_loss(gw_syn, gw_real, self.weight)

    __call__ = match


# The synthetic gradients have norm 5, the real ones norm 1: a term of the wrong ones shows.
def synthetic() -> list[Tensor]:
    return [computed(3.0, 0.0), computed(4.0)]


def real() -> list[Tensor]:
    return [torch.tensor([0.0, 0.6], dtype=torch.float64), torch.tensor([0.8]).double()]


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
    with pytest.raises(ValueError, match="finds no argument 'input' in this call: it has 2 pos"):
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
    with pytest.raises(ValueError, match="first argument is a single tensor"):
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


def test_log_ramp_grows_geometrically_then_stays() -> None:
    ramp = LogRamp(0.002, 0.032, steps=4)
    assert [ramp(t) for t in range(5)] == pytest.approx([0.002, 0.004, 0.008, 0.016, 0.032])
    assert ramp(5) == ramp(10_000) == pytest.approx(0.032)


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


@pytest.mark.parametrize("not_a_loss", [torch.tensor(1.0), 3.0, None])
def test_loss_that_cannot_be_called_is_refused(not_a_loss: Any) -> None:
    name = type(not_a_loss).__name__
    with pytest.raises(TypeError, match=f"loss_fn must be callable, got {name}"):
        with_sdc(not_a_loss, LAM)


def test_unknown_norm_is_refused() -> None:
    with pytest.raises(ValueError, match="norm must be 'l2' or 'l2_squared', got 'l1'"):
        with_sdc(match_loss, LAM, norm="l1")  # type: ignore[arg-type]


@pytest.mark.parametrize("empty", [[], (), {}, [None], {"weight": None}])
def test_no_gradients_at_all_are_refused(empty: Any) -> None:
    with pytest.raises(ValueError, match="no gradients to penalise: got an empty collection"):
        with_sdc(two, LAM)(empty)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((torch.zeros(2),), ValueError, r"call .observe\(gradients\) before .* or pass grads=0"),
        ((), ValueError, "finds no argument 0 in this call: it has 0 positional arguments"),
        ((1.0,), TypeError, "found no gradients: the argument is a float"),
        (("gw_syn",), TypeError, "found no gradients: the argument is a str"),
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
    message = r"finds no argument .* it has 1 positional arguments and \['gw_real'\] keywords"
    with pytest.raises(ValueError, match=message):
        with_sdc(match_loss, LAM, grads=grads)(synthetic(), gw_real=real())


@pytest.mark.parametrize("returned", [1.0, None, (torch.zeros(()),)])
def test_loss_that_is_no_tensor_is_refused(returned: Any) -> None:
    name = type(returned).__name__
    with pytest.raises(TypeError, match=f"the wrapped loss returned a {name}"):
        with_sdc(lambda gw_syn: returned, LAM)(synthetic())


def test_observing_is_refused_where_grads_names_an_argument() -> None:
    wrapped = with_sdc(match_loss, LAM, grads="gw_syn")
    with pytest.raises(ValueError, match=r"drop grads= to use .observe\(\)"):
        wrapped.observe(synthetic())
    with pytest.raises(ValueError, match=r"drop grads= to use .observe\(\)"):
        wrapped.observe_norms([leaf(1.0)[0]])


NORMS = st.lists(st.floats(0, 1e4, width=32), min_size=1, max_size=7)


def norms_of(values: list[float]) -> list[Tensor]:
    return [torch.tensor(value, requires_grad=True) for value in values]


def with_derivatives(term: Tensor, norms: list[Tensor]) -> Tensor:
    return torch.stack([term.detach(), *torch.autograd.grad(term, norms)])


@settings(max_examples=80, deadline=None)
@given(
    values=NORMS,
    lam=st.floats(1e-6, 1e3),
    norm=st.sampled_from(["l2", "l2_squared"]),
    scale=st.sampled_from([1.0, 0.5, 0.3]),
)
def test_wrapper_and_injection_add_the_formula_bit_for_bit(
    values: list[float], lam: float, norm: Any, scale: float
) -> None:
    def formula(weight: float, reduction: Any) -> Tensor:
        norms = norms_of(values)
        term = sdc_penalty(norms, weight, norm=norm, reduction=reduction)
        return with_derivatives(term, norms)

    norms = norms_of(values)
    wrapped = with_sdc(lambda: torch.zeros(()), lam, norm=norm)
    wrapped.observe_norms(norms)
    assert torch.equal(with_derivatives(wrapped(), norms), formula(lam, "mean"))
    for reduction in ("mean", "sum"):
        norms = norms_of(values)
        added = Term(Strength(lam), norm, reduction, scale)
        term = added.at(lam, norms, of=len(norms))
        assert torch.equal(with_derivatives(term, norms), formula(scale * lam, reduction))


@settings(max_examples=80, deadline=None)
@given(values=NORMS, lam=st.floats(0, 1e3))
def test_penalty_is_its_definition(values: list[float], lam: float) -> None:
    norms = torch.tensor(values, dtype=torch.float64)
    for given_norms in (norms, list(norms)):
        for norm, powers in (("l2", norms), ("l2_squared", norms**2)):
            for reduction, value in (("mean", powers.mean()), ("sum", powers.sum())):
                term = sdc_penalty(given_norms, lam, norm=norm, reduction=reduction)
                torch.testing.assert_close(term, lam * value, rtol=1e-12, atol=0)


@pytest.mark.parametrize("norm", ["l2", "l2_squared"])
def test_shares_of_a_mean_add_up_to_it(norm: Any) -> None:
    norms = torch.tensor([3.0, 4.0, 5.0], dtype=torch.float64)
    shares = [sdc_penalty(norms[k : k + 1], LAM, norm=norm, of=3) for k in range(3)]
    torch.testing.assert_close(torch.stack(shares).sum(), sdc_penalty(norms, LAM, norm=norm))


@pytest.mark.parametrize(
    ("norms", "options", "problem"),
    [
        ([1.0], {"norm": "l1"}, "norm must be 'l2' or 'l2_squared', got 'l1'"),
        ([1.0], {"reduction": "max"}, "reduction must be 'mean' or 'sum', got 'max'"),
        ([1.0], {"lam": -0.1}, "lam must be finite and at least 0, got -0.1"),
        ([1.0], {"lam": math.inf}, "lam must be finite and at least 0, got inf"),
        ([1.0, 2.0], {"of": 1}, "of must be at least the number of norms, 2, got 1"),
        ([], {}, "no norms to penalise"),
    ],
)
def test_impossible_penalties_are_refused(
    norms: list[float], options: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        sdc_penalty(torch.tensor(norms), **({"lam": LAM} | options))


def test_penalty_with_a_schedule_for_lam_is_refused() -> None:
    with pytest.raises(TypeError, match="lam must be a number"):
        sdc_penalty([leaf(1.0)[0]], LogRamp(0.1, 0.2, steps=3))  # type: ignore[arg-type]


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
    assert "because the observed gradients have no graph although the loss has one: comp" in said
    assert noted(step) == []


@pytest.mark.parametrize("collect", [list, tuple, lambda given: dict(enumerate(given))])
def test_parameters_in_the_place_of_gradients_are_reported_once(
    collect: Callable[[Any], Any],
) -> None:
    wrapped = with_sdc(lambda student: torch.ones(()), LAM)
    parameters = collect(nn.Linear(2, 2).parameters())
    (said,) = noted(lambda: wrapped(parameters))
    assert "the first argument holds parameters" in said and ".observe(gradients)" in said
    assert noted(lambda: wrapped(parameters)) == []
    assert noted(lambda: with_sdc(two, LAM)([*synthetic(), leaf(1.0)])) == []


def test_observations_of_an_iteration_without_a_loss_are_left_out_and_reported() -> None:
    wrapped = with_sdc(param_loss, LAM)
    arguments = (leaf(1.0, 2.0), torch.zeros(2).double())
    wrapped.iteration = 0
    wrapped.observe([computed(30.0, 40.0)])
    wrapped.iteration = 1
    (said,) = noted(lambda: wrapped.observe([computed(3.0, 4.0)]))
    assert "1 gradients that were observed in iteration 0 never came to a call" in said
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


def test_import_loads_nothing_but_torch(tmp_path: Path) -> None:
    heavy = ("timm", "torchvision", "accelerate", "kornia", "sklearn", "scipy", "matplotlib")
    code = f"import sys, sdc_ext; print([m for m in {heavy} if m in sys.modules])"
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "[]"

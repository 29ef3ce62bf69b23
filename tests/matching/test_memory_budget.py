"""The graphs of inner steps that are kept: exact, not recomputed, and within their budget."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from unrolled import CLASSES, Problem, assert_close, in_shares

from sdc_ext.errors import InputError
from sdc_ext.matching.adjoints import Direct, InnerLoop, Recompute, Share, Tesla
from sdc_ext.matching.budget import Forecast
from sdc_ext.networks import kept_gradients
from sdc_ext.networks.create import create_network
from sdc_ext.networks.functional import FunctionalNetwork
from sdc_ext.networks.kept_gradients import KeptBytes

ALL = math.inf


def forecast(problem: Problem, adjoint: Recompute | Tesla) -> Forecast:
    labels = problem.logits.softmax(-1) if problem.soft else problem.hard
    learnt = (problem.params, problem.images, labels, problem.lr)
    return adjoint.forecast(InnerLoop(problem.student, *learnt, problem.batches))


def budget_for(
    problem: Problem, kept: int, chunk_size: int | None = None, whole: int | None = None
) -> int:
    """The smallest budget that keeps so many steps, so many of them whole (by default all)."""
    step_bytes = forecast(problem, Recompute(chunk_size)).step_bytes
    last = reversed(step_bytes[len(step_bytes) - kept :])
    whole = kept if whole is None else whole
    return sum(size.whole if n < whole else size.results for n, size in enumerate(last))


def roomy(**shape: Any) -> Problem:
    """A problem whose costly results take less than half of a graph."""
    options = {"size": (12, 12), "count": 6, "batch_syn": 6, "steps": 5, "strategy": "none"}
    return Problem(**{**options, **shape})


@contextmanager
def counted(network: nn.Module) -> Iterator[Counter[str]]:
    """Counts the forward passes of a network."""
    passes: Counter[str] = Counter()
    hook = network.register_forward_hook(lambda *_: passes.update(["forward"]))
    yield passes
    hook.remove()


class Executed(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the convolutions and matrix products that are executed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.costly: Counter[str] = Counter()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.costly.update([str(function)] if function in kept_gradients.COSTLY else [])
        return function(*args, **(kwargs or {}))


class Saved:
    """The memory of what autograd has saved and still holds, each storage once."""

    def __init__(self) -> None:
        self.uses: Counter[int] = Counter()
        self.now = self.most = 0

    def pack(self, tensor: Tensor) -> Held:
        return Held(self, tensor.detach())  # a tensor with its graph would form a cycle

    def note(self, tensor: Tensor, uses: int) -> None:
        storage = tensor.untyped_storage()
        before = self.uses[storage.data_ptr()]
        self.uses[storage.data_ptr()] += uses
        if not (before and before + uses):
            self.now += uses * storage.nbytes()
        self.most = max(self.most, self.now)


class Held:
    def __init__(self, saved: Saved, tensor: Tensor) -> None:
        self.saved, self.tensor = saved, tensor
        saved.note(tensor, 1)

    def __del__(self) -> None:
        self.saved.note(self.tensor, -1)


@settings(max_examples=25, deadline=None)
@given(
    size=st.tuples(st.integers(4, 12), st.integers(4, 12)),
    count=st.integers(1, 6),
    batch_syn=st.integers(1, 6),
    steps=st.integers(1, 4),
    chunk_size=st.integers(1, 6),
    part=st.floats(0, 1.1),
    spec=st.sampled_from(["convnet:width=4:depth=1", "convnet:width=4:depth=1:norm=batch", "mlp"]),
    soft=st.booleans(),
    seed=st.integers(0, 999),
)
def test_kept_steps_are_exact(chunk_size: int, part: float, **shape: Any) -> None:
    problem = Problem(**shape, channels=3)
    budget = part * budget_for(problem, len(problem.batches), chunk_size)
    ours = problem.gradients(adjoint=Recompute(chunk_size, memory_budget=budget))
    assert_close(ours, problem.gradients(adjoint=Direct()), 1e-10)
    assert problem.student.all_kept_bytes == 0


@pytest.mark.parametrize(("kept", "whole"), [(0, 0), (2, 0), (5, 0), (5, 1), (5, 4), (5, 5)])
def test_costly_results_come_first_and_graphs_with_what_is_left(kept: int, whole: int) -> None:
    problem = roomy()
    budget = budget_for(problem, kept, whole=whole)
    for more, expected in ((0, (kept, whole)), (-1, None)):
        adjoint = Recompute(memory_budget=max(budget + more, 0))
        found = forecast(problem, adjoint)
        assert expected is None or (found.kept, found.whole) == expected
        assert expected is not None or kept == 0 or (found.kept, found.whole) < (kept, whole)
        assert_close(problem.gradients(adjoint=adjoint), problem.gradients(adjoint=Direct()), 1e-10)


def test_large_results_are_not_kept_in_place_of_graphs() -> None:
    small, large = KeptBytes(100, 40), KeptBytes(100, 60)
    assert Forecast.of([small] * 4, 90) == Forecast([small] * 4, kept=2, whole=0)
    assert Forecast.of([large] * 4, 210) == Forecast([large] * 4, kept=2, whole=2)
    assert Forecast.of([small, large], 100) == Forecast([small, large], kept=2, whole=0)


@pytest.mark.parametrize("spec", ["convnet:width=4:depth=2", "mlp", "convnet:norm=batch:width=4"])
@pytest.mark.parametrize("soft", [True, False])
def test_what_is_kept_has_the_same_bits(spec: str, soft: bool) -> None:
    problem = roomy(spec=spec, channels=3, soft=soft)
    labels = problem.logits.softmax(-1) if soft else problem.hard
    batch = (problem.params, problem.images, labels)
    u = torch.randn_like(problem.params)
    for hessian in (True, False):
        expected = problem.student.gradient_product(*batch, u, hessian=hessian)
        for whole in (True, False):
            kept = problem.student.kept_gradient(*batch, whole=whole)
            for ours, theirs in zip(kept.product(u, hessian=hessian), expected, strict=True):
                assert (ours is None and theirs is None) or torch.equal(ours, theirs)


def test_kept_results_are_not_computed_again() -> None:
    problem = roomy(spec="convnet:width=4:depth=2")
    batch = (problem.params, problem.images, problem.hard)
    u = torch.randn_like(problem.params)
    executed = {}
    for whole in (True, False):
        kept = problem.student.kept_gradient(*batch, whole=whole)
        with Executed() as executed[whole]:
            kept.product(u, hessian=True)
    assert executed[True].costly == executed[False].costly  # those of the second derivatives
    assert sum(executed[True].costly.values()) > 0


class Overwriting(nn.Module):
    """A network that writes to the result of a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(2, 3, 3), nn.Conv2d(3, CLASSES, 4)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(torch.sigmoid_(self.first(images))).flatten(1)


def test_results_that_a_network_overwrites_are_computed_again() -> None:
    problem = roomy(size=(6, 6))
    problem.student = FunctionalNetwork(Overwriting().double())
    theta = problem.student.initial_parameters()
    batch = (theta, problem.images, problem.hard)
    u = torch.randn_like(theta)
    expected = problem.student.gradient_product(*batch, u, hessian=True)
    ours = problem.student.kept_gradient(*batch, whole=False).product(u, hessian=True)
    for a, b in zip(ours, expected, strict=True):
        assert (a is None and b is None) or torch.equal(a, b)


def test_kept_steps_of_tesla_are_those_recomputed() -> None:
    problem = Problem(steps=4, count=7, batch_syn=5)
    kept = problem.gradients(adjoint=Tesla(2, memory_budget=budget_for(problem, 2, 2)))
    assert_close(kept, problem.gradients(adjoint=Tesla(2)), 1e-12)


@pytest.mark.parametrize("adjoint", [Recompute, Tesla])
@pytest.mark.parametrize("budget", [0, 0.0, 1])
def test_without_room_for_a_step_nothing_changes(
    adjoint: type[Recompute] | type[Tesla], budget: float
) -> None:
    problem = Problem()
    plain = problem.gradients(adjoint=adjoint(2))
    same = problem.gradients(adjoint=adjoint(2, memory_budget=budget))
    assert all(torch.equal(a, b) for a, b in zip(plain, same, strict=True))


@pytest.mark.parametrize("kept", [0, 1, 3, 5])
def test_kept_steps_are_not_recomputed(kept: int) -> None:
    problem = Problem(steps=5, count=6, batch_syn=6)
    adjoint = Recompute(2, memory_budget=budget_for(problem, kept, 2))
    assert not problem.student.is_random(problem.images)  # which runs the network once
    with counted(problem.student.network) as passes:
        problem.gradients(adjoint=adjoint)
    chunks = 3
    assert passes["forward"] == chunks * (5 + (5 - kept))


def test_a_minibatch_is_measured_once() -> None:
    problem = Problem(steps=4, count=7, batch_syn=3)  # minibatches of 1, 3, 3 and 1 images
    assert not problem.student.is_random(problem.images)  # which runs the network once
    for measured in (2, 0):
        with counted(problem.student.network) as passes:
            problem.gradients(adjoint=Recompute(memory_budget=ALL))
        assert passes["forward"] == 4 + measured


@pytest.mark.parametrize(("kept", "whole"), [(2, 0), (5, 0), (5, 2), (5, 5)])
@pytest.mark.parametrize("chunk_size", [None, 3])
def test_what_is_kept_stays_within_the_budget(
    kept: int, whole: int, chunk_size: int | None
) -> None:
    problem = roomy()
    budget = budget_for(problem, kept, chunk_size, whole)
    saved = Saved()
    with saved_tensors_hooks(saved.pack, lambda held: held.tensor):
        problem.gradients(adjoint=Recompute(chunk_size, memory_budget=budget))
    chunk = budget_for(problem, 1)  # of the whole minibatch, at most
    assert saved.most <= budget + (chunk if whole < 5 else 0.02 * chunk)
    assert saved.now == 0


def test_loops_of_one_student_share_a_budget() -> None:
    problem = Problem(steps=4, strategy="none")
    adjoint = Recompute(memory_budget=budget_for(problem, 4))
    first = problem.loss(adjoint=adjoint)
    assert forecast(problem, adjoint).kept == 0
    second = problem.loss(adjoint=adjoint)
    expected = torch.autograd.grad(second, problem.leaves)
    del first
    assert forecast(problem, adjoint).kept == 4
    assert_close(problem.gradients(adjoint=adjoint), expected, 1e-12)


def test_a_graph_that_is_walked_again_is_recomputed() -> None:
    problem = Problem()
    loss = problem.loss(adjoint=Recompute(memory_budget=ALL))
    first = torch.autograd.grad(loss, problem.leaves, retain_graph=True)
    assert problem.student.all_kept_bytes == 0
    assert_close(torch.autograd.grad(loss, problem.leaves), first, 1e-12)


def test_every_process_keeps_its_own_chunks() -> None:
    problems = [Problem(batch_syn=5), Problem(batch_syn=5)]

    def work(index: int, share: Share) -> tuple[Tensor, ...]:
        # The first keeps one step and the second all of them.
        problem = problems[index]
        step = forecast(problem, Recompute(2, share)).step_bytes[0].whole
        adjoint = Recompute(2, share, memory_budget=(step, ALL)[index])
        assert forecast(problem, adjoint).kept == (1, 3)[index]
        return problem.gradients(adjoint=adjoint)

    alone = Problem(batch_syn=5).gradients()
    for gradients in in_shares(work):
        assert_close(gradients, alone, 1e-12)


def test_the_memory_of_a_graph_is_what_autograd_saves() -> None:
    student = FunctionalNetwork(nn.Sequential(nn.Flatten(), nn.Linear(4, CLASSES, bias=False)))
    images, labels = torch.randn(6, 1, 2, 2)[:2], torch.tensor([0, 1])
    theta = student.initial_parameters()
    found = student.kept_bytes(theta, images, labels)
    inputs = 4 * (images.numel() + 2 * theta.numel()) + labels.nbytes  # with the gradient
    logits = 4 * 2 * CLASSES
    assert found.results == inputs + logits + 4 * theta.numel()
    assert inputs + 2 * logits <= found.whole <= inputs + 6 * logits
    assert student.kept_bytes(theta, images.clone(), labels) == found


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_kept_steps_of_compiled_students_run_uncompiled() -> None:
    problem = Problem(strategy="none")
    network = create_network("convnet:width=4:depth=1", 2, CLASSES, (6, 6)).double()
    problem.student = FunctionalNetwork(network, compile=True)
    some = problem.gradients(adjoint=Recompute(memory_budget=budget_for(problem, 1)))
    assert_close(some, problem.gradients(adjoint=Direct()), 1e-6)


@pytest.mark.parametrize("adjoint", [Recompute, Tesla])
@pytest.mark.parametrize("budget", [-1, math.nan])
def test_budgets_below_zero_are_refused(
    adjoint: type[Recompute] | type[Tesla], budget: float
) -> None:
    with pytest.raises(InputError, match="memory_budget must be at least 0, got"):
        adjoint(memory_budget=budget)

"""The graphs of inner steps that are kept: exact, not recomputed, and within their budget."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from helpers import PATIENCE
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from unrolled import CLASSES, Problem, assert_close

from sdc_ext.errors import InputError
from sdc_ext.matching.adjoints import Direct, Forecast, InnerLoop, Recompute, Share, Tesla
from sdc_ext.networks.create import create_network
from sdc_ext.networks.functional import FunctionalNetwork

ALL = math.inf


def forecast(problem: Problem, adjoint: Recompute | Tesla) -> Forecast:
    labels = problem.logits.softmax(-1) if problem.soft else problem.hard
    learnt = (problem.params, problem.images, labels, problem.lr)
    return adjoint.forecast(InnerLoop(problem.student, *learnt, problem.batches))


def budget_for(problem: Problem, kept: int, chunk_size: int | None = None) -> int:
    """The smallest budget that keeps so many steps."""
    step_bytes = forecast(problem, Recompute(chunk_size)).step_bytes
    return sum(step_bytes[len(step_bytes) - kept :])


@contextmanager
def counted(network: nn.Module) -> Iterator[Counter[str]]:
    """Counts the forward passes of a network."""
    passes: Counter[str] = Counter()
    hook = network.register_forward_hook(lambda *_: passes.update(["forward"]))
    yield passes
    hook.remove()


class Saved:
    """The memory of what autograd has saved and still holds, each storage once."""

    def __init__(self) -> None:
        self.uses: Counter[int] = Counter()
        self.now = self.most = 0

    def pack(self, tensor: Tensor) -> Held:
        return Held(self, tensor)

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
    size=st.tuples(st.integers(4, 9), st.integers(4, 9)),
    count=st.integers(1, 6),
    batch_syn=st.integers(1, 6),
    steps=st.integers(1, 4),
    chunk_size=st.integers(1, 4),
    kept=st.integers(0, 4),
    spec=st.sampled_from(["convnet:width=4:depth=1", "convnet:width=4:depth=1:norm=batch", "mlp"]),
    soft=st.booleans(),
    seed=st.integers(0, 999),
)
def test_kept_steps_are_exact(chunk_size: int, kept: int, **shape: Any) -> None:
    problem = Problem(**shape, channels=3)
    kept = min(kept, len(problem.batches))
    adjoint = Recompute(chunk_size, memory_budget=budget_for(problem, kept, chunk_size))
    assert forecast(problem, adjoint).kept == kept
    assert_close(problem.gradients(adjoint=adjoint), problem.gradients(adjoint=Direct()), 1e-10)
    assert problem.student.kept_bytes == 0


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
    with counted(problem.student.network) as passes:
        problem.gradients(adjoint=adjoint)
    chunks = 3
    assert passes["forward"] == chunks * (5 + (5 - kept))


def test_a_minibatch_is_measured_once() -> None:
    problem = Problem(steps=4, count=7, batch_syn=3)  # minibatches of 1, 3, 3 and 1 images
    for measured in (2, 0):
        with counted(problem.student.network) as passes:
            problem.gradients(adjoint=Recompute(memory_budget=ALL))
        assert passes["forward"] == 4 + measured


@pytest.mark.parametrize("chunk_size", [None, 2])
@pytest.mark.parametrize("kept", [1, 3, 5])
def test_graphs_stay_within_the_budget(kept: int, chunk_size: int | None) -> None:
    problem = Problem(steps=5, count=6, batch_syn=6, strategy="none")
    budget = budget_for(problem, kept, chunk_size)
    saved = Saved()
    with saved_tensors_hooks(saved.pack, lambda held: held.tensor):
        problem.gradients(adjoint=Recompute(chunk_size, memory_budget=budget))
    recomputed = 1.5 * budget_for(problem, 1) if kept < 5 else 0  # of a whole step at most
    assert 0.8 * budget <= saved.most <= 1.02 * max(budget, recomputed)
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
    assert problem.student.kept_bytes == 0
    assert_close(torch.autograd.grad(loss, problem.leaves), first, 1e-12)


def test_every_process_keeps_its_own_chunks() -> None:
    barrier, parts = threading.Barrier(2, timeout=PATIENCE), [torch.empty(0), torch.empty(0)]

    def work(index: int) -> tuple[Tensor, ...]:
        def reduce(tensor: Tensor) -> Tensor:
            parts[index] = tensor
            barrier.wait()
            total = parts[0] + parts[1]
            barrier.wait()
            return total

        # The first keeps one step and the second all of them.
        problem, share = problems[index], Share(index, 2, reduce)
        step = forecast(problem, Recompute(2, share)).step_bytes[0]
        adjoint = Recompute(2, share, memory_budget=(step, ALL)[index])
        assert forecast(problem, adjoint).kept == (1, 3)[index]
        return problem.gradients(adjoint=adjoint)

    problems = [Problem(batch_syn=5), Problem(batch_syn=5)]
    alone = Problem(batch_syn=5).gradients()
    with ThreadPoolExecutor(2) as pool:
        for gradients in pool.map(work, (0, 1)):
            assert_close(gradients, alone, 1e-12)


def test_the_memory_of_a_graph_is_what_autograd_saves() -> None:
    student = FunctionalNetwork(nn.Sequential(nn.Flatten(), nn.Linear(4, CLASSES, bias=False)))
    images, labels = torch.randn(6, 1, 2, 2)[:2], torch.tensor([0, 1])
    theta = student.initial_parameters()
    found = student.graph_bytes(theta, images, labels)
    floats = (
        images.numel()  # of the product with the weight
        + 2 * theta.numel()  # the weight, and the gradient
        + 2 * 2 * CLASSES  # log-probabilities and their gradient
    )
    assert 4 * floats + labels.nbytes <= found <= 4 * (floats + 4 * 2 * CLASSES) + labels.nbytes
    assert student.graph_bytes(theta, images.clone(), labels) == found


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

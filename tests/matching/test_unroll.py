"""The inner loop: its adjoints against each other, finite differences and invariants."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call
from unrolled import CLASSES, Problem, assert_close, in_shares

from sdc_ext.augment.parse import parse_augmentation
from sdc_ext.errors import InputError
from sdc_ext.matching.adjoints import Adjoint, Direct, Recompute, Tesla
from sdc_ext.matching.inner_loop import unroll
from sdc_ext.matching.minibatches import Minibatch, draw_minibatches
from sdc_ext.networks.create import create_network
from sdc_ext.networks.functional import FunctionalNetwork


@settings(max_examples=25, deadline=None)
@given(
    channels=st.integers(1, 3),
    size=st.tuples(st.integers(4, 9), st.integers(4, 9)),
    count=st.integers(1, 6),
    batch_syn=st.integers(1, 6),
    steps=st.integers(1, 4),
    chunk_size=st.integers(1, 4),
    soft=st.booleans(),
    seed=st.integers(0, 999),
)
def test_recompute_equals_direct(chunk_size: int, **shape: Any) -> None:
    problem = Problem(**shape)
    ours = problem.gradients(adjoint=Recompute(chunk_size))
    assert_close(ours, problem.gradients(adjoint=Direct()), 1e-10)


@pytest.mark.parametrize(
    "spec",
    ["mlp", "convnet:width=4:depth=1:norm=batch", "convnet:width=4:depth=2:norm=layer:pool=max"],
)
def test_recompute_equals_direct_on_other_networks(spec: str) -> None:
    problem = Problem(spec=spec, channels=3, size=(12, 12), strategy="none")
    assert_close(problem.gradients(adjoint=Recompute(2)), problem.gradients(adjoint=Direct()), 1e-9)


@pytest.mark.parametrize("adjoint", [Recompute(), Direct()])
def test_gradients_are_finite_differences(adjoint: Adjoint) -> None:
    problem = Problem(spec="convnet:width=4:depth=1:act=swish", strategy="none")
    gradients = problem.gradients(adjoint=adjoint)
    step = 1e-6
    for leaf, gradient in zip(problem.leaves, gradients, strict=True):
        direction = torch.randn_like(leaf)
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                leaf += sign * step * direction
            values.append(float(problem.loss(adjoint=adjoint).detach()))
            with torch.no_grad():
                leaf -= sign * step * direction
        expected = (values[0] - values[1]) / (2 * step)
        assert float((gradient * direction).sum()) == pytest.approx(expected, rel=1e-5)


def test_values_do_not_depend_on_the_adjoint() -> None:
    losses = [Problem().loss(adjoint=a).detach() for a in (Direct(), Recompute(), Tesla())]
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-12, atol=0)
    assert torch.equal(losses[1], losses[2])


def test_tesla_differs_and_agrees_for_a_single_step() -> None:
    one = Problem(steps=1)
    exact, tesla = one.gradients(), one.gradients(adjoint=Tesla())
    assert_close(tesla[1:], exact[1:], 1e-12)
    more = Problem(steps=3)
    exact, tesla = more.gradients(), more.gradients(adjoint=Tesla())
    assert (tesla[1] - exact[1]).abs().max() > 1e-3 * exact[1].abs().max()


def test_two_shares_equal_one() -> None:
    problems = [Problem(batch_syn=5), Problem(batch_syn=5)]
    alone = Problem(batch_syn=5).gradients()
    for gradients in in_shares(lambda i, s: problems[i].gradients(adjoint=Recompute(2, s))):
        assert_close(gradients, alone, 1e-12)


def test_no_gradient_no_nan() -> None:
    problem = Problem(soft=False)
    problem.params = torch.zeros_like(problem.params).requires_grad_()
    for gradient in problem.gradients():
        assert bool(gradient.isfinite().all())


def test_graph_may_be_walked_twice() -> None:
    problem = Problem()
    loss = problem.loss()
    first = torch.autograd.grad(loss, problem.leaves, retain_graph=True)
    again = torch.autograd.grad(loss, problem.leaves)
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a, b)


def test_minibatches_are_cut_from_a_permutation_and_used_from_its_end() -> None:
    torch.manual_seed(3)
    batches = draw_minibatches(7, 3, 5, parse_augmentation("none"), (4, 4))
    torch.manual_seed(3)
    first, second = torch.randperm(7), torch.randperm(7)
    expected = [first[6:], first[3:6], first[:3], second[6:], second[3:6]]
    for batch, rows in zip(batches, expected, strict=True):
        assert torch.equal(batch.rows, rows)


def test_minibatches_of_the_whole_set() -> None:
    for batch_syn in (0, 9):
        for batch in draw_minibatches(4, batch_syn, 2, parse_augmentation("none"), (4, 4)):
            assert sorted(batch.rows.tolist()) == [0, 1, 2, 3]


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("adjoint", [Direct(), Recompute(2), Recompute(2, memory_budget=1e9)])
def test_frozen_parameters_are_constants(
    adjoint: Adjoint, compile: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 5), nn.Tanh(), nn.Linear(5, CLASSES))
    network[1].weight.requires_grad_(False)
    network.double()
    images = torch.randn(3, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    labels, steps = torch.tensor([0, 1, 1]), 3

    student = FunctionalNetwork(network, compile=compile)
    batches = [Minibatch(torch.arange(3), lambda x: x)] * steps
    lr = torch.tensor(0.1, dtype=torch.float64)
    theta, norms = unroll(
        *(student, student.initial_parameters(), images, labels, lr, batches), adjoint=adjoint
    )
    (found,) = torch.autograd.grad(theta.square().sum() + norms.sum(), images)

    parts = dict(network.named_parameters())
    total = torch.zeros(())
    for _ in range(steps):
        loss = F.cross_entropy(functional_call(network, parts, (images,)), labels)
        trained = {name: part for name, part in parts.items() if part.requires_grad}
        gradient = torch.autograd.grad(loss, list(trained.values()), create_graph=True)
        total = total + torch.cat([g.flatten() for g in gradient]).norm()
        moved = {n: p - lr * g for (n, p), g in zip(trained.items(), gradient, strict=True)}
        parts = {name: moved.get(name, part) for name, part in parts.items()}
    total = total + sum(part.square().sum() for part in parts.values())
    torch.testing.assert_close(theta, torch.cat([part.flatten() for part in parts.values()]))
    torch.testing.assert_close(found, torch.autograd.grad(total, images)[0])


def test_parameters_that_are_stored_channels_last_are_one_vector() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 2), nn.Flatten(), nn.Linear(4 * 9, CLASSES))
    student = FunctionalNetwork(network.to(memory_format=torch.channels_last))
    assert not network[0].weight.is_contiguous()
    images = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(student(student.initial_parameters(), images), network(images))


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_compiled_products_tell_hard_labels_from_soft_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, CLASSES)).double()
    plain, compiled = FunctionalNetwork(network), FunctionalNetwork(network, compile=True)
    theta, images = plain.initial_parameters(), torch.randn(3, 1, 2, 2, dtype=torch.float64)
    u, hard = torch.randn_like(theta), torch.tensor([0, 1, 1])
    soft = torch.randn(3, CLASSES, dtype=torch.float64).softmax(-1)
    for labels in (hard, soft, hard):
        found, expected = (
            student.gradient_product(theta, images, labels, u, hessian=True)
            for student in (compiled, plain)
        )
        assert (found[1] is None) == (expected[1] is None) == (labels is hard)
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs)


class Dropping(nn.Module):
    """Dropout that is no module of torch's."""

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, 0.5, self.training)


class Following(nn.Module):
    """Changes a buffer at each call; whether it uses it is up to ``weight``."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight
        self.register_buffer("mean", torch.zeros(16))

    def forward(self, x: Tensor) -> Tensor:
        self.mean = self.mean.lerp(x.detach().mean(0), 0.5)
        return x - self.weight * self.mean


@pytest.mark.parametrize("layer", [nn.Dropout(0.5), Dropping(), Following(1.0)])
def test_what_varies_is_refused_where_steps_are_computed_again(layer: nn.Module) -> None:
    network = nn.Sequential(nn.Flatten(), layer, nn.Linear(16, CLASSES)).train()
    student = FunctionalNetwork(network)
    images, labels = torch.randn(2, 1, 4, 4), torch.tensor([0, 1])
    batch = Minibatch(torch.arange(2), lambda x: x)
    arguments = (student, student.initial_parameters(), images, labels, torch.tensor(0.1), [batch])
    with pytest.raises(InputError, match="adjoint 'recompute' recomputes each step"):
        unroll(*arguments)
    final, norms = unroll(*arguments, adjoint=Direct())
    assert final.shape == (student.num_parameters,) and norms.shape == (1,)


@pytest.mark.parametrize("layer", [Following(0.0), nn.BatchNorm1d(16)])
def test_buffers_that_are_not_used_are_allowed(layer: nn.Module) -> None:
    network = nn.Sequential(nn.Flatten(), layer, nn.Linear(16, CLASSES)).train()
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    assert not FunctionalNetwork(network).is_random(torch.randn(2, 1, 4, 4))
    assert all(torch.equal(buffer, before[name]) for name, buffer in network.named_buffers())


@pytest.mark.parametrize("adjoint", ["exact", "recompute", Recompute])
def test_what_is_no_adjoint_is_refused(adjoint: object) -> None:
    with pytest.raises(InputError, match=r"must be Recompute\(\), Direct\(\) or Tesla\(\)"):
        Problem().loss(adjoint=adjoint)


@pytest.mark.parametrize("adjoint", [Recompute, Tesla])
def test_chunks_of_no_image_are_refused(adjoint: type[Recompute] | type[Tesla]) -> None:
    with pytest.raises(InputError, match="chunk_size must be at least 1, got 0"):
        adjoint(chunk_size=0)


@pytest.mark.parametrize("adjoint", [Recompute(3), Tesla(3), Direct()])
def test_adjoints_are_values(adjoint: Adjoint) -> None:
    assert " at 0x" not in repr(adjoint)
    twin = pickle.loads(pickle.dumps(adjoint))
    assert twin == adjoint and hash(twin) == hash(adjoint)
    assert adjoint not in (Recompute(), Tesla(), Recompute(4))
    with pytest.raises(FrozenInstanceError):
        adjoint.chunk_size = 4  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_compiled_derivatives_equal_plain_ones() -> None:
    torch.manual_seed(0)
    network = create_network("convnet:width=8:depth=2", 3, CLASSES, (12, 12))
    # A small u: forward derivatives have lost digits on it.
    images, u = torch.randn(4, 3, 12, 12), 1e-5 * torch.randn(1059)
    for labels in (torch.tensor([0, 1, 2, 0]), torch.rand(4, CLASSES).softmax(-1)):
        plain, compiled = FunctionalNetwork(network), FunctionalNetwork(network, compile=True)
        theta = plain.initial_parameters()
        torch.testing.assert_close(
            compiled.gradient(theta, images, labels), plain.gradient(theta, images, labels)
        )
        for hessian in (True, False):
            ours, theirs = (
                s.gradient_product(theta, images, labels, u, hessian=hessian)
                for s in (compiled, plain)
            )
            for a, b in zip(ours, theirs, strict=True):
                assert (a is None) == (b is None)
                if a is not None and b is not None:
                    assert_close((a,), (b,), 1e-5)

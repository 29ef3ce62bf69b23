"""Chunked gradients and training equal whole batches and a plain loop."""

from __future__ import annotations

import copy
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import SGD

from sdc_ext.augment.base import NoAugmentation
from sdc_ext.augment.siamese import SiameseAugmentation
from sdc_ext.errors import InputError
from sdc_ext.networks.chunks import default_chunk_size
from sdc_ext.networks.create import create_network
from sdc_ext.training.epochs import accuracy, train_epoch
from sdc_ext.training.gradients import BatchLoss, differentiable_gradient, mean_gradient

CLASSES = 4


def small_network(norm: str = "instance", size: tuple[int, int] = (8, 8)) -> nn.Module:
    return create_network(f"convnet:width=4:depth=2:norm={norm}", 3, CLASSES, size).double()


def batch(n: int, *, soft: bool = False, side: int = 8) -> tuple[Tensor, Tensor]:
    images = torch.randn(n, 3, side, side, dtype=torch.float64)
    if soft:
        return images, torch.randn(n, CLASSES, dtype=torch.float64).softmax(-1)
    return images, torch.randint(CLASSES, (n,))


def plain_gradient(network: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
    loss = F.cross_entropy(network(images), labels)
    return torch.autograd.grad(loss, list(network.parameters()))


def assert_equal(ours: tuple[Tensor, ...], reference: tuple[Tensor, ...]) -> None:
    for gradient, expected in zip(ours, reference, strict=True):
        torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-12)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.integers(1, 9), st.integers(1, 12), st.booleans(), st.integers(0, 2**31))
def test_mean_gradient_is_the_same_for_any_chunk_size(
    n: int, chunk_size: int, soft: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    network = small_network()
    images, labels = batch(n, soft=soft)
    ours = mean_gradient(network, images, labels, chunk_size=chunk_size)
    assert_equal(ours, plain_gradient(network, images, labels))
    assert not any(g.requires_grad for g in ours)


def test_mean_gradient_in_default_chunks_is_the_whole_batchs() -> None:
    network = small_network(size=(96, 96))
    images, labels = batch(9, side=96)
    assert default_chunk_size(images) < len(images)
    ours = mean_gradient(network, images, labels)
    assert_equal(ours, plain_gradient(network, images, labels))


class Sums(nn.Module):
    """Autograd gives two of its parameters one gradient, and the third one of repeated values."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(192, CLASSES)
        self.first, self.second = (nn.Parameter(torch.zeros(CLASSES)) for _ in range(2))
        self.scale = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.flatten(1)) * (1 + self.scale.sum()) + (self.first + self.second)


def test_chunks_are_summed_where_parameters_share_a_gradient() -> None:
    network = Sums().double()
    images, labels = batch(9)
    ours = mean_gradient(network, images, labels, chunk_size=2)
    assert_equal(ours, plain_gradient(network, images, labels))


def test_one_hot_labels_count_like_hard_ones() -> None:
    network = small_network()
    images, labels = batch(5)
    one_hot = F.one_hot(labels, CLASSES).double()
    ours = mean_gradient(network, images, one_hot, chunk_size=2)
    assert_equal(ours, mean_gradient(network, images, labels))


def test_training_batch_norm_sees_the_whole_batch_once() -> None:
    network, reference = small_network("batch"), small_network("batch")
    reference.load_state_dict(network.state_dict())
    images, labels = batch(6)
    ours = mean_gradient(network, images, labels, chunk_size=2)
    assert_equal(ours, plain_gradient(reference, images, labels))
    for buffer, expected in zip(network.buffers(), reference.buffers(), strict=True):
        torch.testing.assert_close(buffer, expected)


def test_evaluating_batch_norm_may_be_chunked() -> None:
    network = small_network("batch").eval()
    seen: list[int] = []
    network.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    images, labels = batch(6)
    ours = mean_gradient(network, images, labels, chunk_size=4)
    assert seen == [4, 2]
    assert_equal(ours, plain_gradient(network, images, labels))


def test_batch_norm_without_running_statistics_sees_the_whole_batch() -> None:
    norm = nn.BatchNorm2d(3, track_running_stats=False)
    network = nn.Sequential(norm, nn.Flatten(), nn.Linear(192, CLASSES)).double().eval()
    images, labels = batch(6)
    ours = mean_gradient(network, images, labels, chunk_size=2)
    assert_equal(ours, plain_gradient(network, images, labels))


@pytest.mark.parametrize("gradient", [mean_gradient, differentiable_gradient])
def test_frozen_parameters_are_left_out_and_unused_ones_are_zero(gradient: object) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, CLASSES)).double()
    network.register_parameter("unused", nn.Parameter(torch.ones(2)))
    network[1].bias.requires_grad_(False)
    unused, weight = gradient(network, *batch(3))  # type: ignore[operator]
    assert torch.equal(unused, torch.zeros(2))
    assert weight.shape == (CLASSES, 192) and bool(weight.any())


@pytest.mark.parametrize("soft", [False, True])
def test_differentiable_gradient_is_the_mean_gradient_in_graph(soft: bool) -> None:
    network = small_network()
    images, labels = batch(3, soft=soft)
    ours = differentiable_gradient(network, images.requires_grad_(), labels)
    assert_equal(ours, mean_gradient(network, images.detach(), labels))
    assert all(g.requires_grad for g in ours)


def test_differentiable_gradient_agrees_with_finite_differences() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 3), nn.Tanh(), nn.Linear(3, CLASSES))
    network.double()
    labels = torch.tensor([0, 3])
    images = torch.randn(2, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: differentiable_gradient(network, x, labels), images)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((256, 1, 28, 28), 64), ((256, 3, 32, 32), 49), ((10, 3, 56, 14), 64), ((4, 3, 900, 900), 1)],
)
def test_default_chunk_holds_the_same_number_of_pixels(
    shape: tuple[int, ...], expected: int
) -> None:
    assert default_chunk_size(torch.empty(shape)) == expected


def test_default_chunk_is_the_whole_batch_away_from_the_cpu() -> None:
    assert default_chunk_size(torch.empty(500, 3, 64, 64, device="meta")) == 500


@pytest.mark.parametrize("soft", [False, True])
def test_epoch_equals_a_plain_loop(soft: bool) -> None:
    images, labels = batch(15, soft=soft, side=96)
    network = small_network(size=(96, 96))
    reference = copy.deepcopy(network)
    ours, theirs = (
        SGD(n.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01) for n in (network, reference)
    )
    assert default_chunk_size(images) < 8

    torch.manual_seed(3)
    for _ in range(2):
        train_epoch(network, ours, images, labels, batch_size=8, augmentation=NoAugmentation())

    torch.manual_seed(3)
    for _ in range(2):
        for index in torch.randperm(15).split(8):
            theirs.zero_grad()
            F.cross_entropy(reference(images[index]), labels[index]).backward()
            theirs.step()

    for parameter, expected in zip(network.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(parameter, expected, rtol=1e-10, atol=1e-12)


class Recorder(nn.Module):
    """Notes the images that it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, CLASSES)
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.detach())
        return self.linear(x.mean(dim=(2, 3)))


def test_epoch_shows_each_image_once_in_an_order_of_its_own() -> None:
    images = torch.arange(20.0)[:, None, None, None].expand(-1, 3, 4, 4).clone()
    orders = []
    for _ in range(2):
        network = Recorder()
        train_epoch(
            network,
            SGD(network.parameters(), lr=0.0),
            images,
            torch.zeros(20, dtype=torch.long),
            batch_size=8,
            augmentation=NoAugmentation(),
        )
        assert [len(x) for x in network.seen] == [8, 8, 4]
        orders.append(torch.cat(network.seen)[:, 0, 0, 0].tolist())
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(20))
    assert orders[0] != orders[1]


def test_epoch_augments_each_image_on_its_own() -> None:
    images = torch.rand(1, 3, 8, 8).expand(16, -1, -1, -1)
    network = Recorder()
    train_epoch(
        network,
        SGD(network.parameters(), lr=0.0),
        images,
        torch.zeros(16, dtype=torch.long),
        batch_size=16,
        augmentation=SiameseAugmentation("color"),
    )
    assert len(network.seen[0].unique(dim=0)) == 16


class FirstPixel(nn.Module):
    """Predicts the first pixel's value; noisy until it is put into evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(1.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(F.one_hot(x[:, 0, 0, 0].long(), CLASSES).float())


def test_accuracy_is_the_share_of_images_over_uneven_batches() -> None:
    images = torch.tensor([1.0, 2.0, 3.0, 1.0, 2.0])[:, None, None, None]
    labels = torch.tensor([1, 2, 3, 1, 3])
    network = FirstPixel()
    batches = [(images[:4], labels[:4]), (images[4:], labels[4:])]
    assert accuracy(network, batches) == pytest.approx(4 / 5)
    assert not network.training


@pytest.mark.slow
def test_compiled_gradient_equals_the_plain_one() -> None:
    compiled = BatchLoss(compile=True)
    for _ in range(2):  # a fresh network uses the code of the first
        network = small_network()
        images, labels = batch(6)
        ours = mean_gradient(network, images, labels, chunk_size=4, batch_loss=compiled)
        assert_equal(ours, plain_gradient(network, images, labels))
        parts = [(images[:4], labels[:4]), (images[4:], labels[4:])]
        assert accuracy(network, parts, compiled) == accuracy(network, parts)
        network.train()
        again = mean_gradient(network, images, labels, chunk_size=4, batch_loss=compiled)
        assert_equal(again, ours)


class Projecting(nn.Module):
    """Has random features, which are no parameters, and counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("projection", torch.randn(192, 8))
        self.register_buffer("calls", torch.zeros(()))
        self.linear = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.linear(x.flatten(1) @ self.projection)


def test_compiled_code_uses_the_buffers_of_each_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    compiled = BatchLoss(compile=True)
    images, labels = batch(6)
    for _ in range(2):
        network = Projecting().double()
        ours = mean_gradient(network, images, labels, chunk_size=6, batch_loss=compiled)
        assert network.calls == 1
        assert_equal(ours, plain_gradient(network, images, labels))


@pytest.mark.slow
def test_compiled_network_stays_in_the_mode_that_it_is_in() -> None:
    """Dropout must not be left out once a network of the same code has been tested."""
    compiled = BatchLoss(compile=True)
    images, labels = batch(6)
    network = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(192, 10)).double()
    for _ in range(2):
        train_losses = {compiled(network.train(), images, labels).item() for _ in range(3)}
        correct = {compiled.count_correct(network.eval(), images, labels) for _ in range(3)}
        assert len(train_losses) == 3 and len(correct) == 1


def test_bfloat16_gradient_is_near_the_plain_one() -> None:
    network = small_network().float()
    images, labels = batch(6)
    plain, half = (
        torch.cat(
            [g.flatten() for g in mean_gradient(network, images.float(), labels, batch_loss=loss)]
        )
        for loss in (BatchLoss(), BatchLoss(bf16=True))
    )
    assert half.dtype == torch.float32
    error = (half - plain).norm() / plain.norm()
    assert 0 < error < 0.05


@pytest.mark.parametrize("precision", ["fp16", "fp8"])
def test_other_precisions_are_refused(precision: str) -> None:
    accelerator: Any = SimpleNamespace(mixed_precision=precision)
    with pytest.raises(InputError, match=f"unknown mixed precision '{precision}'"):
        BatchLoss.of(accelerator)

"""A small inner loop, whose derivatives can be computed in several ways, and an expert."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from helpers import PATIENCE
from torch import Tensor

from sdc_ext.augment.parse import parse_augmentation
from sdc_ext.experts import Experts
from sdc_ext.matching.adjoints import Share
from sdc_ext.matching.inner_loop import unroll
from sdc_ext.matching.minibatches import draw_minibatches
from sdc_ext.networks.create import create_network
from sdc_ext.networks.functional import FunctionalNetwork

CLASSES = 3

T = TypeVar("T")


class Problem:
    """A small inner loop in float64, whose loss has a distance and the correction."""

    def __init__(
        self,
        *,
        spec: str = "convnet:width=4:depth=1",
        channels: int = 2,
        size: tuple[int, int] = (6, 6),
        count: int = 5,
        batch_syn: int = 3,
        steps: int = 3,
        soft: bool = True,
        strategy: str = "crop_cutout_flip",
        seed: int = 0,
    ) -> None:
        torch.manual_seed(seed)
        network = create_network(spec, channels, CLASSES, size).double().train()
        self.student = FunctionalNetwork(network)
        self.params = self.student.initial_parameters().requires_grad_()
        self.images = torch.randn(count, channels, *size, dtype=torch.float64).requires_grad_()
        self.logits = torch.randn(count, CLASSES, dtype=torch.float64).requires_grad_()
        self.hard = torch.arange(count) % CLASSES
        self.lr = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
        self.soft = soft
        self.batches = draw_minibatches(count, batch_syn, steps, parse_augmentation(strategy), size)

    @property
    def leaves(self) -> list[Tensor]:
        learnt = [self.params, self.images, self.lr]
        return [*learnt, self.logits] if self.soft else learnt

    def loss(self, **options: Any) -> Tensor:
        labels = self.logits.softmax(-1) if self.soft else self.hard
        final, norms = unroll(
            self.student, self.params, self.images, labels, self.lr, self.batches, **options
        )
        return (final - 0.3).square().sum() + 0.5 * norms.mean()

    def gradients(self, **options: Any) -> tuple[Tensor, ...]:
        return torch.autograd.grad(self.loss(**options), self.leaves)


def assert_close(ours: tuple[Tensor, ...], theirs: tuple[Tensor, ...], tolerance: float) -> None:
    for a, b in zip(ours, theirs, strict=True):
        assert (a - b).abs().max() <= tolerance * b.abs().max()


class OneExpert(Experts):
    """Random parameters at three epochs, for images of 8x8 pixels of ten classes."""

    epochs = 2
    description = "random"

    def __init__(self, network: str) -> None:
        self._network = network

    @property
    def identity(self) -> dict[str, str]:
        return {}

    def __len__(self) -> int:
        return 1

    def parameters(self, expert: int, epoch: int) -> Tensor:
        torch.manual_seed(epoch)
        network = create_network(self._network, 1, 10, (8, 8))
        return torch.cat([p.detach().flatten() for p in network.parameters()])


def in_shares(work: Callable[[int, Share], T], count: int = 2) -> list[T]:
    """What processes compute that sum their parts, each called with its index and share."""
    barrier, parts = threading.Barrier(count, timeout=PATIENCE), [torch.empty(0)] * count

    def compute(index: int) -> T:
        def reduce(tensor: Tensor) -> Tensor:
            parts[index] = tensor
            barrier.wait()
            total = sum(parts[1:], parts[0])
            barrier.wait()
            return total

        return work(index, Share(index, count, reduce))

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(compute, range(count)))

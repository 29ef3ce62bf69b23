"""A loop's cost in images is what its networks see, forward and back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from unrolled import OneExpert

from sdc_ext import with_sdc
from sdc_ext.adapters import Loop, Task
from sdc_ext.adapters.loops import DistributionMatching, GradientMatching, TrajectoryMatching
from sdc_ext.data import load_data

NETWORK = "convnet:width=4:depth=1"


@contextmanager
def counted_images() -> Iterator[list[int]]:
    """The sizes of all batches that convolutions are given."""
    seen: list[int] = []

    def count(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        if isinstance(module, nn.Conv2d):
            seen.append(len(given[0]))

    hook = nn.modules.module.register_module_forward_pre_hook(count)
    try:
        yield seen
    finally:
        hook.remove()


@pytest.mark.parametrize(
    "loop",
    [
        GradientMatching(batch_real=7),
        GradientMatching(batch_real=7, outer_loop=3, inner_loop=2),
        GradientMatching(batch_real=7, outer_loop=3, inner_loop=2, contrast=True, outer_warmup=0),
        DistributionMatching(batch_real=7),
        TrajectoryMatching(
            syn_steps=4, batch_syn=5, max_start_epoch=1, expert_epochs=1, adjoint="direct"
        ),
        TrajectoryMatching(
            syn_steps=2, batch_syn=99, max_start_epoch=1, expert_epochs=1, adjoint="direct"
        ),
        TrajectoryMatching(syn_steps=2, max_start_epoch=1, expert_epochs=1, adjoint="direct"),
        GradientMatching(batch_real=7, outer_loop=3, inner_loop=2, factor=2),
        DistributionMatching(batch_real=7, factor=2),
        TrajectoryMatching(
            syn_steps=2,
            batch_syn=40,
            max_start_epoch=1,
            expert_epochs=1,
            adjoint="direct",
            factor=2,
        ),
    ],
    ids=[
        *("dc", "dc-outer-loop", "dcc", "dm", "mtt-minibatches", "mtt-large-batch", "mtt"),
        *("dc-factor", "dm-factor", "mtt-factor"),
    ],
)
def test_an_iteration_costs_what_it_says(loop: Loop) -> None:
    task = Task(load_data("digits"), 2, NETWORK, Accelerator(cpu=True), experts=OneExpert(NETWORK))
    torch.manual_seed(0)
    state = loop.start(task)
    with counted_images() as seen:
        loop.step(state, task, with_sdc(loop.matching_loss(), 0.0), 0)
    assert sum(seen) == loop.images_per_iteration(10, 2)


def test_a_loop_that_does_not_say_costs_nothing_known() -> None:
    assert Loop.images_per_iteration(GradientMatching(), 10, 1) is None

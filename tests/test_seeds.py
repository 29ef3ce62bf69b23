"""Random numbers belong to a place in a run and to nothing else."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from sdc_ext._seeds import seed_torch


def drawn(seed: int, purpose: str, index: int = 0) -> Tensor:
    seed_torch(seed, purpose, index)
    return torch.rand(4)


def test_same_place_draws_the_same_whatever_was_drawn_before() -> None:
    first = drawn(3, "iteration", 7)
    torch.rand(100)
    drawn(3, "evaluation", 7)
    assert torch.equal(drawn(3, "iteration", 7), first)


@pytest.mark.parametrize("other", [(4, "iteration", 7), (3, "evaluation", 7), (3, "iteration", 8)])
def test_other_places_draw_other_numbers(other: tuple[int, str, int]) -> None:
    assert not torch.equal(drawn(*other), drawn(3, "iteration", 7))


def test_neighbouring_places_never_share_a_seed() -> None:
    places = list(itertools.product(range(20), ("iteration", "evaluation"), range(20)))
    seeds = set()
    for place in places:
        seed_torch(*place)
        seeds.add(torch.initial_seed())
    assert len(seeds) == len(places)


def test_numbers_are_the_same_in_every_process() -> None:
    # Pinned: a seed from Python's hash() would change from process to process.
    seed_torch(0, "iteration", 1)
    assert torch.initial_seed() == 5175744595668272433

"""Matching losses and gradients for tests of the correction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

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

"""Losses of discrepancies: their gradients, their units, and the measures that they agree with."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sdc_ext.errors import InputError
from sdc_ext.evaluation.discrepancies import choose_discrepancies
from sdc_ext.matching import discrepancies
from sdc_ext.matching.discrepancies import LOSSES, median_distance, summed_over_classes

every = pytest.mark.parametrize("name", LOSSES)


def points(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def seeded(name: str, real: Tensor) -> Callable[[Tensor], Tensor]:
    """The loss with the same random directions at every call."""

    def loss(syn: Tensor) -> Tensor:
        torch.manual_seed(3)
        return LOSSES[name](syn, real)

    return loss


def gradient(name: str, syn: Tensor, real: Tensor) -> Tensor:
    leaf = syn.clone().requires_grad_()
    (found,) = torch.autograd.grad(seeded(name, real)(leaf), leaf)
    return found


@every
@pytest.mark.parametrize("m", [1, 4])
def test_gradients_are_those_of_finite_differences(
    name: str, m: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The envelope theorem holds for the exact weights of transport.
    monkeypatch.setattr(discrepancies, "TOLERANCE", 1e-10)
    syn = 0.5 + points(m, 3, seed=1)
    assert torch.autograd.gradcheck(seeded(name, points(9, 3)), syn.requires_grad_(), rtol=1e-4)


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_coinciding_points_have_a_finite_gradient(name: str, dtype: torch.dtype) -> None:
    real = points(6, 4).to(dtype)
    for syn in (real, real[:1], real[:1].expand(3, -1), torch.zeros_like(real)):
        assert bool(gradient(name, syn, real).isfinite().all())
    assert bool(gradient(name, real[:2], real[:1].expand(6, -1)).isfinite().all())
    assert float(gradient(name, real, real).norm()) < 0.02 * float(real.norm())


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "mmd-polynomial"])
@pytest.mark.parametrize("scale", [0.01, 100.0])
def test_losses_have_the_unit_of_a_squared_distance(name: str, scale: float) -> None:
    syn, real = 0.5 + points(4, 3, seed=1), points(9, 3)
    ratio = seeded(name, scale * real)(scale * syn) / seeded(name, real)(syn)
    assert float(ratio) == pytest.approx(scale**2, rel=1e-3)


@every
def test_losses_measure_what_the_measures_of_sets_do(name: str) -> None:
    real, syn = points(30, 3), 0.5 + points(5, 3, seed=1)
    measure = choose_discrepancies(["sinkhorn-0.5" if name == "sinkhorn" else name])
    (value,) = [float(of(real, syn[None])) for of in measure.values()]
    scale = float(median_distance(real))
    factors = {"mmd-polynomial": 1.0, "energy": scale, "sliced": 3.0, "sinkhorn": 1.0}
    found = float(seeded(name, real)(syn))
    tolerance = 0.1 if name == "sliced" else 1e-6  # which draws other directions
    assert found == pytest.approx(factors.get(name, scale**2) * value, rel=tolerance)


def test_the_first_order_of_the_polynomial_is_linear() -> None:
    real, syn = 1e-3 * points(9, 3), 1e-3 * points(4, 3, seed=1)
    expected = (real.mean(0) - syn.mean(0)).square().sum()
    torch.testing.assert_close(LOSSES["mmd-polynomial"](syn, real), expected, rtol=1e-2, atol=0)


def test_classes_are_summed_whatever_their_sizes() -> None:
    syn, real = [points(2, 3), points(2, 3, seed=1)], [points(5, 3, seed=2), points(1, 3, seed=3)]
    expected = sum(LOSSES["energy"](s, r) for s, r in zip(syn, real, strict=True))
    torch.testing.assert_close(summed_over_classes("energy")(syn, real), expected)


@pytest.mark.parametrize("name", ["sliced", "sinkhorn"])
def test_transport_without_its_package_is_refused(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ot", None)
    with pytest.raises(InputError, match=r"sdc-ext\[ot\].*or choose mmd-linear"):
        summed_over_classes(name)


@every
def test_parts_change_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    syn, real = points(4, 3, seed=1), points(9, 3)
    expected = gradient(name, syn, real)
    monkeypatch.setattr(discrepancies, "PAIRS", 7)
    torch.testing.assert_close(gradient(name, syn, real), expected)

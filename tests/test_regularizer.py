"""The term of the correction: its formula and its refusals."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from losses import LAM, leaf
from torch import Tensor

from sdc_ext import LogRamp, sdc_penalty, with_sdc
from sdc_ext.injection.term import Term
from sdc_ext.strength import Strength

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
        ([1.0], {"norm": "l1"}, "unknown norm 'l1': choose from l2, l2_squared"),
        ([1.0], {"norm": None}, "unknown norm None: choose from l2, l2_squared"),
        ([1.0], {"reduction": "max"}, "unknown reduction 'max': choose from mean, sum"),
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


def test_import_loads_nothing_but_torch(tmp_path: Path) -> None:
    heavy = ("timm", "torchvision", "accelerate", "kornia", "sklearn", "scipy", "matplotlib")
    code = f"import sys, sdc_ext; print([m for m in {heavy} if m in sys.modules])"
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "[]"

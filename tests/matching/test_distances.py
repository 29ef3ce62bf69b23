"""The distances between gradients against the originals' numbers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from helpers import Golden, relative_error
from torch import Tensor

from sdc_ext.errors import InputError
from sdc_ext.matching.distances import gradient_distance

CASES = (
    "match_ours_a",
    "match_ours_layernorm3d",
    "match_ours_zerorows",
    "match_mse_a",
    "match_mse_layernorm3d",
    "match_cos_a",
    "match_cos_layernorm3d",
)


def value_and_gradients(case: Golden) -> tuple[Tensor, list[Tensor]]:
    gw_syn = [g.requires_grad_() for g in case.group("gw_syn").values()]
    gw_real = list(case.group("gw_real").values())
    value = gradient_distance(case.meta["dis_metric"])(gw_syn, gw_real)
    return value.detach(), list(torch.autograd.grad(value, gw_syn, materialize_grads=True))


@pytest.mark.parametrize("name", CASES)
def test_distance_and_its_gradient_equal_the_original(
    golden: Callable[[str], Golden], name: str
) -> None:
    case = golden(name)
    value, gradients = value_and_gradients(case)
    assert value.item() == pytest.approx(case["value"].item(), rel=1e-10)
    for ours, reference in zip(gradients, case.group("grad_gw_syn").values(), strict=True):
        if reference.any():
            assert relative_error(ours, reference) < 1e-10
        else:  # "ours" leaves out tensors of one dimension
            assert not ours.any()


def test_gradient_on_zero_rows_is_the_originals(golden: Callable[[str], Golden]) -> None:
    case = golden("match_ours_zerorows")
    _, gradients = value_and_gradients(case)
    # By themselves: beside the huge gradient of row 3 the others hardly count in a tensor's error.
    reference = list(case.group("grad_gw_syn").values())
    for row in range(len(reference[4])):
        assert relative_error(gradients[4][row], reference[4][row]) < 1e-10
    assert not gradients[0][2].any()


def test_zero_gradients_have_distance_one_a_row() -> None:
    zeros, ones = [torch.zeros(3, 4)], [torch.ones(3, 4)]
    assert gradient_distance("ours")(zeros, ones).item() == 3
    assert gradient_distance("cos")(zeros, ones).item() == 1


@pytest.mark.parametrize("dis_metric", ["ours", "mse", "cos"])
def test_distance_to_a_different_number_of_gradients_is_refused(dis_metric: str) -> None:
    three, two = [torch.ones(2, 2)] * 3, [torch.ones(2, 2)] * 2
    with pytest.raises((ValueError, RuntimeError), match=r"shorter|size of tensor"):
        gradient_distance(dis_metric)(three, two)


def test_unknown_distance_is_refused() -> None:
    message = "unknown dis_metric 'cosine': did you mean 'cos'. choose from cos, mse, ours"
    with pytest.raises(InputError, match=message):
        gradient_distance("cosine")

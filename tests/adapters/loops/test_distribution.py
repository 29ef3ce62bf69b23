"""The distribution-matching step against the original's numbers, with and without correction."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from helpers import Golden, relative_error
from torch import Tensor

from sdc_ext import with_sdc
from sdc_ext.adapters.loops.distribution import match_distributions
from sdc_ext.adapters.loops.steps import ClassBatch, StepResult
from sdc_ext.matching.distances import mean_feature_distance
from sdc_ext.networks.create import create_network
from sdc_ext.sets.synthetic_set import class_labels

CASES = ("dm_step_3x16_w8_d2", "dm_step_batchnorm_1x28_w8_d3")


def identity(images: Tensor) -> Tensor:
    return images


def batches(real: Tensor, ipc: int) -> list[ClassBatch]:
    return [
        ClassBatch(c, lambda c=c: real[c], slice(c * ipc, (c + 1) * ipc), identity)
        for c in range(len(real))
    ]


def step(case: Golden, lam: float) -> StepResult:
    ipc = case.meta["ipc"]
    of_classes = batches(case["images_real"], ipc)
    return match_distributions(
        case.network(),
        case["images_syn"],
        class_labels(len(of_classes), ipc),
        of_classes,
        with_sdc(mean_feature_distance, lam),
        mine=of_classes,
        reduce=identity,
    )


@pytest.mark.parametrize("name", CASES)
def test_step_equals_the_original(golden: Callable[[str], Golden], name: str) -> None:
    case = golden(name)
    result = step(case, 0.0)
    assert float(result.loss) == pytest.approx(float(case["loss"]), rel=1e-10)
    assert relative_error(result.image_gradient, case["grad_image"]) < 1e-10
    assert float(result.difficulty) == pytest.approx(float(case["gradn"]), rel=1e-10)


@pytest.mark.parametrize("lam", [0.02, 0.5])
@pytest.mark.parametrize("name", CASES)
def test_correction_by_itself_equals_golden(
    golden: Callable[[str], Golden], name: str, lam: float
) -> None:
    case = golden(name)
    plain, corrected = step(case, 0.0), step(case, lam)
    key = f"sdc_norm_{str(lam).replace('.', 'p')}"
    value = float(corrected.loss - plain.loss) / lam
    assert value == pytest.approx(float(case[f"{key}_loss"] - case["loss"]) / lam, rel=1e-9)
    ours = (corrected.image_gradient - plain.image_gradient) / lam
    reference = (case[f"{key}_grad_image"] - case["grad_image"]) / lam
    assert relative_error(ours, reference) < 1e-8


def test_processes_that_share_the_classes_match_what_one_matches(
    golden: Callable[[str], Golden],
) -> None:
    case = golden(CASES[0])
    ipc, real = case.meta["ipc"], case["images_real"]
    of_classes = batches(real, ipc)
    others: list[Tensor] = []

    def run(mine: list[ClassBatch], reduce: Callable[[Tensor], Tensor]) -> StepResult:
        return match_distributions(
            case.network(),
            case["images_syn"],
            class_labels(len(of_classes), ipc),
            of_classes,
            with_sdc(mean_feature_distance, 0.02),
            mine=mine,
            reduce=reduce,
        )

    run(of_classes[1:], lambda real: others.append(real) or real)  # type: ignore[func-returns-value]
    shared = run(of_classes[:1], lambda real: real + others[0])
    torch.testing.assert_close(shared.image_gradient, step(case, 0.02).image_gradient)


def test_networks_of_timm_are_matched_by_what_their_last_layer_is_given() -> None:
    torch.manual_seed(0)
    network = create_network("timm:resnet10t", 1, 3, (32, 32)).eval()
    real, images = torch.randn(3, 4, 1, 32, 32), torch.randn(3, 1, 32, 32)
    of_classes = batches(real, 1)
    result = match_distributions(
        network,
        images,
        class_labels(3, 1),
        of_classes,
        with_sdc(mean_feature_distance, 0.0),
        mine=of_classes,
        reduce=identity,
    )
    leaf = images.clone().requires_grad_()
    features = network.forward_head(network.forward_features(leaf), pre_logits=True)
    with torch.no_grad():
        means = [
            network.forward_head(network.forward_features(x), pre_logits=True).mean(0) for x in real
        ]
    loss = F.mse_loss(features, torch.stack(means), reduction="sum")
    torch.testing.assert_close(result.loss, loss.detach(), rtol=1e-4, atol=1e-5)
    (gradient,) = torch.autograd.grad(loss, leaf)
    torch.testing.assert_close(result.image_gradient, gradient, rtol=1e-3, atol=1e-4)

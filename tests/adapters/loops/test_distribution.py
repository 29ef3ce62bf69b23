"""The distribution-matching step against the original's numbers, with and without correction."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers import Golden, relative_error
from torch import Tensor, nn
from unrolled import in_shares

from sdc_ext import with_sdc
from sdc_ext.adapters.loops.distribution import (
    match_distributions,
    mean_real_features,
    sets_by_class,
    shared_feature_sets,
    shared_real_features,
)
from sdc_ext.adapters.loops.steps import ClassBatch, StepResult
from sdc_ext.matching.adjoints import Share
from sdc_ext.matching.discrepancies import LOSSES, summed_over_classes
from sdc_ext.matching.distances import mean_feature_distance
from sdc_ext.networks.create import create_network
from sdc_ext.networks.features import noted_features
from sdc_ext.sets.synthetic_set import class_labels
from sdc_ext.strength import Schedule

CASES = ("dm_step_3x16_w8_d2", "dm_step_batchnorm_1x28_w8_d3")


def identity(images: Tensor) -> Tensor:
    return images


def batches(real: Tensor, ipc: int) -> list[ClassBatch]:
    return [
        ClassBatch(c, lambda c=c: real[c], slice(c * ipc, (c + 1) * ipc), identity)
        for c in range(len(real))
    ]


def step(case: Golden, lam: float | Schedule, iteration: int = 0) -> StepResult:
    ipc = case.meta["ipc"]
    of_classes = batches(case["images_real"], ipc)
    network, loss_fn = case.network(), with_sdc(mean_feature_distance, lam)
    loss_fn.iteration = iteration
    return match_distributions(
        network,
        case["images_syn"],
        class_labels(len(of_classes), ipc),
        of_classes,
        lambda: mean_real_features(network, of_classes),
        loss_fn,
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


@pytest.mark.parametrize("processes", [2, 3, 7])  # the last of which has more than classes
def test_processes_that_share_the_classes_match_what_one_matches(
    golden: Callable[[str], Golden], processes: int
) -> None:
    case = golden(CASES[0])
    ipc, real = case.meta["ipc"], case["images_real"]
    of_classes = batches(real, ipc)
    network, parts = case.network(), []

    def share_of(process: int, reduce: Callable[[Tensor], Tensor]) -> Tensor:
        accelerator = SimpleNamespace(process_index=process, num_processes=processes)
        task = SimpleNamespace(accelerator=accelerator, reduce=reduce)
        return shared_real_features(network, of_classes, task)  # type: ignore[arg-type]

    for process in range(1, processes):
        parts.append(share_of(process, identity))
    assert all(part.shape == parts[0].shape for part in parts)
    shared = match_distributions(
        network,
        case["images_syn"],
        class_labels(len(of_classes), ipc),
        of_classes,
        lambda: share_of(0, lambda own: own + sum(parts)),
        with_sdc(mean_feature_distance, 0.02),
    )
    torch.testing.assert_close(shared.image_gradient, step(case, 0.02).image_gradient)


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_processes_share_feature_sets_of_any_size(norm: str) -> None:
    torch.manual_seed(0)
    network = create_network(f"convnet:depth=1:width=4:norm={norm}", 1, 3, (8, 8))
    of_classes = batches([torch.randn(n, 1, 8, 8) for n in (4, 1, 6)], 1)
    alone = share_feature_sets(network, of_classes, 1)[0]
    assert [len(features) for features in alone] == [4, 1, 6]
    for processes in (2, 7):
        for shared in share_feature_sets(network, of_classes, processes):
            torch.testing.assert_close(shared, alone)


def share_feature_sets(
    network: nn.Module, of_classes: list[ClassBatch], processes: int
) -> list[list[Tensor]]:
    """What each process returns."""

    def share_of(process: int, share: Share) -> list[Tensor]:
        accelerator = SimpleNamespace(process_index=process, num_processes=processes)
        task: Any = SimpleNamespace(accelerator=accelerator, reduce=share.reduce)
        return shared_feature_sets(copy.deepcopy(network), of_classes, task)

    return in_shares(share_of, processes)


@pytest.mark.parametrize("name", LOSSES)
def test_any_discrepancy_is_matched_per_class_and_corrected(
    golden: Callable[[str], Golden], name: str
) -> None:
    case = golden(CASES[0])
    real, ipc = case["images_real"], case.meta["ipc"]
    of_classes, network = batches(real, ipc), case.network()
    images = case["images_syn"]
    results = []
    for lam in (0.0, 0.5):
        torch.manual_seed(0)
        results.append(
            match_distributions(
                network,
                images,
                class_labels(len(of_classes), ipc),
                of_classes,
                lambda: share_feature_sets(network, of_classes, 1)[0],
                with_sdc(summed_over_classes(name), lam),
                sets_by_class,
            )
        )
    plain, corrected = results
    leaf = images.clone().requires_grad_()
    torch.manual_seed(0)
    with noted_features(network) as noted:
        network(leaf)
        network(real.flatten(0, 1))
    syn, other = (part.chunk(len(of_classes)) for part in noted)
    loss = torch.stack([LOSSES[name](s, r.detach()) for s, r in zip(syn, other, strict=True)]).sum()
    torch.testing.assert_close(plain.loss, loss.detach())
    torch.testing.assert_close(plain.image_gradient, torch.autograd.grad(loss, leaf)[0])
    golden_term = (case["sdc_norm_0p5_grad_image"] - case["grad_image"]) / 0.5
    ours = (corrected.image_gradient - plain.image_gradient) / 0.5
    torch.testing.assert_close(ours, golden_term, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("iteration", "lam"), [(0, 0.0), (3, 0.03)])
def test_a_schedule_may_start_at_zero(
    golden: Callable[[str], Golden], iteration: int, lam: float
) -> None:
    case = golden(CASES[0])
    constant, scheduled = step(case, lam), step(case, lambda t: 0.01 * t, iteration)
    assert torch.equal(scheduled.image_gradient, constant.image_gradient)
    assert torch.equal(scheduled.losses[:3], constant.losses[:3])


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
        lambda: mean_real_features(network, of_classes),
        with_sdc(mean_feature_distance, 0.0),
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

"""The gradient-matching step against the originals' numbers, with and without the correction."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from helpers import Golden, relative_error
from torch import Tensor, nn
from torch.optim import SGD

from sdc_ext import with_sdc
from sdc_ext.adapters.loops import gradient as module
from sdc_ext.adapters.loops.gradient import (
    GradientMatching,
    match_all_classes,
    match_by_class,
    real_gradient,
)
from sdc_ext.adapters.loops.states import ImageState
from sdc_ext.adapters.loops.steps import ClassBatch, StepResult
from sdc_ext.adapters.task import Task
from sdc_ext.augment.base import Augmentation, Replay
from sdc_ext.augment.parse import parse_augmentation
from sdc_ext.augment.siamese import SiameseAugmentation
from sdc_ext.data.load import load_data
from sdc_ext.matching.distances import gradient_distance
from sdc_ext.networks.registry import register_network
from sdc_ext.sets.synthetic_set import class_labels
from sdc_ext.training.gradients import BatchLoss

DC_CASES = (
    "dc_step_ours_3x16_w8_d2",
    "dc_step_ours_1x28_w8_d2",
    "dc_step_cos_1x28_w8_d3",
    "dc_step_mse_3x12_w8_d2",
)
DCC_CASES = ("dcc_step_ours_3x16_w8_d2", "dcc_step_cos_1x28_w8_d3")
DSA_CASES = ("dsa_step_1x28_K4", "dsa_step_3x12_K6")
NORMS = (("l2", "norm"), ("l2_squared", "sqnorm"))


def identity(images: Tensor) -> Tensor:
    return images


def batches(case: Golden) -> list[ClassBatch]:
    ipc = case.meta["ipc"]
    real = case["images_real"]
    return [
        ClassBatch(c, lambda c=c: real[c], slice(c * ipc, (c + 1) * ipc), replay_of(case, c))
        for c in range(case.meta["num_classes"])
    ]


def replay_of(case: Golden, label: int) -> Replay:
    if "op_per_class" not in case.meta:
        return identity
    operation = case.meta["op_per_class"][label]
    names = case.meta["param_order"][operation]
    values = case["op_params"][label]
    parameters = {n: values[i].reshape(1).float() for i, n in enumerate(names)}
    if operation in ("crop", "cutout"):
        parameters = {n: p.long() for n, p in parameters.items()}
    return SiameseAugmentation(operation).replay(operation, parameters)


def step(case: Golden, lam: float, norm: str = "l2") -> StepResult:
    loss_fn = with_sdc(gradient_distance(case.meta["dis_metric"]), lam, norm=norm)
    images = case["images_syn"]
    if case.meta["kind"] != "dcc_step":
        network = case.network()
        return match_by_class(network, images, batches(case), loss_fn, batch_loss=BatchLoss())
    labels = class_labels(case.meta["num_classes"], case.meta["ipc"])
    network, of_classes = case.network(), batches(case)
    gw_real = real_gradient(network, of_classes, len(of_classes), batch_loss=BatchLoss())
    return match_all_classes(network, images, labels, of_classes, gw_real, loss_fn)


def parts(name: str, case: Golden, lam: float, norm: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Our and the golden correction by itself, (with - without) / lam: value and gradient."""
    plain, corrected = step(case, 0.0), step(case, lam, norm)
    key = f"sdc_{name}_{str(lam).replace('.', 'p')}"
    return (
        (corrected.loss - plain.loss) / lam,
        (case[f"{key}_loss"] - case["loss"]) / lam,
        (corrected.image_gradient - plain.image_gradient) / lam,
        (case[f"{key}_grad_image"] - case["grad_image"]) / lam,
    )


@pytest.mark.parametrize("name", [*DC_CASES, *DCC_CASES])
def test_step_equals_the_original(golden: Callable[[str], Golden], name: str) -> None:
    case = golden(name)
    result = step(case, 0.0)
    assert float(result.loss) == pytest.approx(float(case["loss"]), rel=1e-10)
    assert relative_error(result.image_gradient, case["grad_image"]) < 1e-10
    norms = case["gw_syn_norms"]
    assert float(result.difficulty) == pytest.approx(float(norms.sum()), rel=1e-10)


@pytest.mark.parametrize(("norm", "key"), NORMS)
@pytest.mark.parametrize("lam", [0.002, 0.02])
@pytest.mark.parametrize("name", [*DC_CASES, *DCC_CASES])
def test_correction_by_itself_equals_golden(
    golden: Callable[[str], Golden], name: str, lam: float, norm: str, key: str
) -> None:
    value, golden_value, gradient, golden_gradient = parts(key, golden(name), lam, norm)
    assert float(value) == pytest.approx(float(golden_value), rel=1e-9)
    assert relative_error(gradient, golden_gradient) < 1e-8


@pytest.mark.parametrize("name", DSA_CASES)
def test_augmented_step_equals_the_original(golden: Callable[[str], Golden], name: str) -> None:
    case = golden(name)
    plain, corrected = step(case, 0.0), step(case, 0.02)
    assert float(plain.loss) == pytest.approx(float(case["loss"]), rel=1e-5)
    assert relative_error(plain.image_gradient, case["grad_image"]) < 1e-5
    assert relative_error(corrected.image_gradient, case["sdc_norm_0p02_grad_image"]) < 1e-5


@pytest.mark.parametrize("processes", [2, 3, 7])
def test_parts_of_the_real_gradient_add_up_to_it(
    golden: Callable[[str], Golden], processes: int
) -> None:
    case = golden(DCC_CASES[0])
    network, of_classes = case.network(), batches(case)
    parts = [
        real_gradient(
            network, of_classes[index::processes], len(of_classes), batch_loss=BatchLoss()
        )
        for index in range(processes)
    ]
    whole = real_gradient(network, of_classes, len(of_classes), batch_loss=BatchLoss())
    for gradient, *shares in zip(whole, *parts, strict=True):
        torch.testing.assert_close(torch.stack(shares).sum(0), gradient)


class RecordedTask:
    """Hands the loop the network and the real batches of a golden case."""

    def __init__(self, case: Golden) -> None:
        self.num_classes = case.meta["num_classes"]
        self.ipc = case.meta["ipc"]
        self.data = SimpleNamespace(image_size=tuple(case.meta["im_size"]))
        self.accelerator = Accelerator(cpu=True)
        self.network = case.network()
        self.batch_losses = [BatchLoss()]
        self._real = case["images_real"]
        self._drawn = 0

    def reduce(self, tensor: Tensor) -> Tensor:
        return tensor

    def draw_member(self, iteration: int) -> int:
        return 0

    def new_network(self, member: int) -> nn.Module:
        return self.network

    def augmentation(self, spec: str) -> Augmentation:
        return parse_augmentation(spec)

    def draw_indices(self, label: int, n: int) -> Tensor:
        self._drawn += 1
        return torch.tensor([(self._drawn - 1) // self.num_classes, label])

    def real_images(self, index: Tensor) -> Tensor:
        return self._real[index[0], index[1]]


def test_outer_loop_equals_the_original(golden: Callable[[str], Golden]) -> None:
    case = golden("dc_outer_loop_3x16")
    task = RecordedTask(case)
    loop = GradientMatching(outer_loop=3, inner_loop=2)
    images = case["images_syn_init"].clone().requires_grad_()
    labels = class_labels(task.num_classes, task.ipc)
    state = ImageState(images, labels, SGD([images], lr=0.1, momentum=0.5))

    log = loop.step(state, task, with_sdc(loop.matching_loss(), 0.0), 0)  # type: ignore[arg-type]

    assert log["loss"] == pytest.approx(float(case["loss_avg_before_division"]) / 3, rel=1e-5)
    assert relative_error(images.detach(), case["images_syn_after"][-1]) < 1e-5
    for ours, reference in zip(
        task.network.parameters(), case.group("final_param").values(), strict=True
    ):
        torch.testing.assert_close(ours.detach(), reference, rtol=1e-4, atol=1e-6)


class ProcessTask(Task):
    """The task of one of two processes, which adds nothing of the other."""

    def reduce(self, tensor: Tensor) -> Tensor:
        return tensor


@pytest.mark.parametrize("contrast", [False, True])
def test_processes_go_on_alike_under_dropout(
    contrast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of them has two classes and the other has one, so that dropout draws more often."""
    digits = load_data("digits")
    few = torch.nonzero(digits.train.labels < 3)[:90, 0]
    data = load_data((digits.train.images[few], digits.train.labels[few]))
    register_network("dropping", dropping)
    monkeypatch.setattr(module, "broadcast", identity)
    loop = GradientMatching(outer_loop=2, outer_warmup=0, contrast=contrast, measure_cost=0.0)

    def drawn_after_a_step(index: int) -> float:
        accelerator: Any = SimpleNamespace(
            device=torch.device("cpu"), process_index=index, num_processes=2, mixed_precision="no"
        )
        task = ProcessTask(data, 1, "dropping", accelerator)
        torch.manual_seed(0)
        loop.step(loop.start(task), task, with_sdc(loop.matching_loss(), 0.0), 0)
        return float(torch.rand(()))

    assert drawn_after_a_step(0) == drawn_after_a_step(1)


def dropping(channels: int, classes: int, size: tuple[int, int]) -> nn.Module:
    pixels = channels * size[0] * size[1]
    return nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(pixels, classes))

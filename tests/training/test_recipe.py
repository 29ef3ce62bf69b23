"""Training by a recipe equals a plain loop with torch's own optimisers and schedules."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from helpers import relative_error
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, MultiStepLR, StepLR

from sdc_ext.augment.mix import parse_mix
from sdc_ext.errors import InputError
from sdc_ext.networks.create import create_network
from sdc_ext.training.gradients import BatchLoss
from sdc_ext.training.label_loss import LabelLoss
from sdc_ext.training.recipe import TrainingRecipe, rate_factor, train_from_scratch

EPOCHS = 12
RATE = 0.05
OF_TORCH: dict[str, Callable[[Optimizer], LRScheduler]] = {
    "halfway": lambda o: StepLR(o, EPOCHS // 2, 0.1),
    "multistep": lambda o: MultiStepLR(o, [2 * EPOCHS // 3, 5 * EPOCHS // 6], 0.2),
    "cosine": lambda o: CosineAnnealingLR(o, EPOCHS),
    "constant": lambda o: StepLR(o, 10**6),
}


def start() -> nn.Module:
    torch.manual_seed(1)
    return create_network("convnet:depth=1:width=4", 1, 4, (8, 8)).double()


def a_set(count: int = 10, soft: bool = False) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    images = torch.randn(count, 1, 8, 8, dtype=torch.float64)
    if soft:
        return images, torch.randn(count, 4, dtype=torch.float64).softmax(1)
    return images, torch.arange(count) % 4


def trained(recipe: TrainingRecipe, images: Tensor, labels: Tensor) -> Tensor:
    network = start()
    torch.manual_seed(2)
    train_from_scratch(network, images, labels, recipe, BatchLoss())
    return nn.utils.parameters_to_vector(network.parameters()).detach()


def plain_epoch(network: nn.Module, optimizer: Optimizer, images: Tensor, labels: Tensor) -> None:
    for index in torch.split(torch.randperm(len(images)), 4):
        optimizer.zero_grad()
        F.cross_entropy(network(images[index]), labels[index]).backward()
        optimizer.step()


def torchs(
    make: Callable[..., Optimizer],
    schedule: Callable[[Optimizer], LRScheduler] | None,
    **how: float,
) -> Tensor:
    """The parameters after a plain loop; without a schedule after that of DC's script."""
    images, labels = a_set()
    network = start().train()
    torch.manual_seed(2)
    optimizer = make(network.parameters(), lr=RATE, **how)
    scheduler = None if schedule is None else schedule(optimizer)
    for epoch in range(EPOCHS + (schedule is None)):
        plain_epoch(network, optimizer, images, labels)
        if scheduler is not None:
            scheduler.step()
        elif epoch == EPOCHS // 2 + 1:
            optimizer = make(network.parameters(), lr=RATE * 0.1, **how)
    return nn.utils.parameters_to_vector(network.parameters()).detach()


@pytest.mark.parametrize("schedule", ["step", *OF_TORCH])
def test_schedules_of_sgd_are_torchs(schedule: str) -> None:
    recipe = TrainingRecipe(EPOCHS, RATE, batch_size=4, schedule=schedule)  # type: ignore[arg-type]
    theirs = torchs(SGD, OF_TORCH.get(schedule), momentum=0.9, weight_decay=0.0005)
    assert relative_error(trained(recipe, *a_set()), theirs) < 1e-10


def test_adamw_is_torchs() -> None:
    recipe = TrainingRecipe(
        EPOCHS, RATE, batch_size=4, optimizer="adamw", schedule="cosine", weight_decay=0.01
    )
    theirs = torchs(AdamW, OF_TORCH["cosine"], weight_decay=0.01)
    assert relative_error(trained(recipe, *a_set()), theirs) < 1e-7


@given(st.sampled_from(["step", *OF_TORCH]), st.integers(1, 300))
def test_rates_start_at_the_whole_and_never_rise(schedule: str, epochs: int) -> None:
    factors = [rate_factor(schedule, epoch, epochs) for epoch in range(epochs)]  # type: ignore
    assert factors == sorted(factors, reverse=True)
    assert all(0 < factor <= 1 for factor in factors)
    assert factors[0] == 1


def test_cutmix_is_idcs() -> None:
    """The loss of a batch is IDC's, with the box and the partners that were drawn."""
    images, labels = a_set()
    torch.manual_seed(5)
    mixed, targets = parse_mix("cutmix").draw((8, 8), 10)(images, F.one_hot(labels, 4).double())
    torch.manual_seed(5)
    torch.rand(())
    share = float(torch.distributions.Beta(1.0, 1.0).sample())
    other = torch.randperm(10)
    cut, center_h, center_w = (
        int(8 * math.sqrt(1 - share)),
        int(torch.randint(8, ())),
        int(torch.randint(8, ())),
    )
    top, bottom = max(center_h - cut // 2, 0), min(center_h + cut // 2, 8)
    left, right = max(center_w - cut // 2, 0), min(center_w + cut // 2, 8)
    expected = images.clone()
    expected[:, :, top:bottom, left:right] = images[other][:, :, top:bottom, left:right]
    assert torch.equal(mixed, expected) and not torch.equal(mixed, images)
    ratio = 1 - (bottom - top) * (right - left) / 64
    output = start()(mixed)
    theirs = F.cross_entropy(output, labels) * ratio
    theirs = theirs + F.cross_entropy(output, labels[other]) * (1 - ratio)
    torch.testing.assert_close(LabelLoss().mean(output, targets), theirs)


@given(st.sampled_from(["mixup", "cutmix", "cutmix:p=0.3:beta=0.5"]), st.integers(0, 2**31))
def test_mixes_keep_the_sums_of_labels_and_the_range_of_images(spec: str, seed: int) -> None:
    images, labels = a_set(soft=True)
    torch.manual_seed(seed)
    mixed, targets = parse_mix(spec).draw((8, 8), 10)(images, labels)
    torch.testing.assert_close(targets.sum(1), torch.ones(10, dtype=torch.float64))
    torch.testing.assert_close(targets.mean(0), labels.mean(0))
    assert mixed.min() > images.min() - 1e-9 and mixed.max() < images.max() + 1e-9


def test_mixes_happen_as_often_as_they_are_asked_to() -> None:
    images, labels = a_set()
    hot, mix = F.one_hot(labels, 4).double(), parse_mix("mixup:p=0.25")
    torch.manual_seed(0)
    changed = [not torch.equal(mix.draw((8, 8), 10)(images, hot)[0], images) for _ in range(400)]
    assert 70 < sum(changed) < 130  # four standard deviations and more


@pytest.mark.parametrize("wrong", ["cut", "cutmix:q=1", "cutmix:p=0", "mixup:beta=-1", "none:p=1"])
def test_mixes_that_are_none_are_refused(wrong: str) -> None:
    with pytest.raises(InputError, match="mix"):
        parse_mix(wrong)


def test_soft_losses_are_those_of_dd_ranking() -> None:
    output = torch.randn(5, 4, dtype=torch.float64)
    logits = 3 * torch.randn(5, 4, dtype=torch.float64)
    for name in ("kl", "cross_entropy"):
        loss = LabelLoss(name, 1.2)  # type: ignore[arg-type]
        student, teacher = (output / 1.2).log_softmax(1), (logits / 1.2).softmax(1)
        theirs = -(teacher * student).sum(1).mean()
        if name == "kl":
            theirs = F.kl_div(student, teacher, reduction="batchmean")
        ours = loss.mean(output, loss.soften(logits.softmax(1)))
        torch.testing.assert_close(ours, theirs)
        torch.testing.assert_close(loss(output, loss.soften(logits.softmax(1))), 5 * theirs)


def test_both_losses_train_alike_and_the_temperature_matters() -> None:
    images, labels = a_set(soft=True)
    recipe = TrainingRecipe(3, RATE, batch_size=4, temperature=4.0)
    kl = trained(replace(recipe, label_loss="kl"), images, labels)
    assert relative_error(kl, trained(recipe, images, labels)) < 1e-10
    assert relative_error(kl, trained(replace(recipe, temperature=1.0), images, labels)) > 1e-3


def test_hard_labels_ignore_the_temperature() -> None:
    images, labels = a_set()
    recipe = TrainingRecipe(2, RATE, batch_size=4)
    other = replace(recipe, temperature=9.0, label_loss="kl")
    assert torch.equal(trained(recipe, images, labels), trained(other, images, labels))


def test_labels_of_one_class_can_be_mixed() -> None:
    """The number of classes is the network's, whatever the set's labels are."""
    images, _ = a_set()
    network = start()
    before = copy.deepcopy(network.state_dict())
    recipe = TrainingRecipe(1, RATE, mix="mixup")
    train_from_scratch(network, images, torch.zeros(10, dtype=torch.int64), recipe, BatchLoss())
    assert not torch.equal(before["classifier.weight"], network.state_dict()["classifier.weight"])


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("epochs", 0),
        ("lr", 0.0),
        ("momentum", 1.0),
        ("weight_decay", -0.1),
        ("batch_size", 0),
        ("optimizer", "adam"),
        ("schedule", "linear"),
        ("mix", "mixup:0"),
        ("temperature", float("nan")),
    ],
)
def test_recipes_that_cannot_train_are_refused(field: str, wrong: object) -> None:
    with pytest.raises(InputError, match=f"{field}|{wrong}"):
        TrainingRecipe(**({"epochs": 1} | {field: wrong}))  # type: ignore[arg-type]

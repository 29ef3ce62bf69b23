"""Networks that are trained as one stack end where each would end by itself."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from helpers import relative_error
from torch import Tensor, nn
from torch.func import stack_module_state

from sdc_ext._seeds import Draws, seed_torch
from sdc_ext.networks.create import create_network
from sdc_ext.training.gradients import BatchLoss, mean_gradient
from sdc_ext.training.recipe import TrainingRecipe, train_from_scratch
from sdc_ext.training.stacked import StackedGradient, obstacle, train_stack

CPU = torch.device("cpu")
SHAPE = (1, 8, 8)
SMALL = "convnet:depth=1:width=4"
STACK = 3


def start(spec: str, k: int, dtype: torch.dtype = torch.float64) -> nn.Module:
    seed_torch(0, "evaluation", k)
    return create_network(spec, SHAPE[0], 10, SHAPE[1:]).to(dtype)


def alone(spec: str, images: Tensor, labels: Tensor, recipe: TrainingRecipe) -> list[nn.Module]:
    trained = []
    for k in range(STACK):
        trained.append(start(spec, k, images.dtype))
        train_from_scratch(trained[-1], images, labels, recipe, BatchLoss())
    return trained


def stacked(
    spec: str,
    images: Tensor,
    labels: Tensor,
    recipe: TrainingRecipe,
    gradient: StackedGradient | None = None,
) -> list[nn.Module]:
    networks, draws = [], []
    for k in range(STACK):
        networks.append(start(spec, k, images.dtype))
        draws.append(Draws(CPU))
    train_stack(networks, draws, images, labels, recipe, gradient or StackedGradient())
    return networks


def parameters(networks: list[nn.Module]) -> Tensor:
    return torch.stack([nn.utils.parameters_to_vector(n.parameters()) for n in networks]).detach()


def make_set(count: int, soft: bool = False) -> tuple[Tensor, Tensor]:
    images = torch.randn(count, *SHAPE, dtype=torch.float64)
    if soft:
        return images, torch.rand(count, 10, dtype=torch.float64).softmax(-1)
    return images, torch.arange(count) % 10


@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
@pytest.mark.parametrize(
    "augmentation",
    [
        "none",
        "color_crop_cutout_flip_scale_rotate",
        "dc:crop_scale_rotate_noise",
        "kornia:RandomAffine(degrees=15)",
    ],
)
def test_parameters_are_those_of_one_by_one(augmentation: str, soft: bool) -> None:
    images, labels = make_set(20, soft)
    # The rate drops after five of the seven epochs, of three batches each.
    recipe = TrainingRecipe(6, lr=0.05, batch_size=8, augmentation=augmentation)
    first, second = (parameters(train(SMALL, images, labels, recipe)) for train in (alone, stacked))
    assert relative_error(second, first) < 1e-9
    assert relative_error(first[1], first[0]) > 0.1


@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
@pytest.mark.parametrize("mix", ["mixup", "cutmix:p=0.5"])
def test_other_recipes(mix: str, soft: bool) -> None:
    images, labels = make_set(20, soft)
    recipe = TrainingRecipe(
        *(4, 0.05),
        batch_size=8,
        augmentation="idc:color_crop_cutout",
        optimizer="adamw",
        schedule="cosine",
        mix=mix,
        label_loss="kl",
        temperature=2.0,
    )
    first, second = (parameters(train(SMALL, images, labels, recipe)) for train in (alone, stacked))
    assert relative_error(second, first) < 1e-6
    assert relative_error(first[1], first[0]) > 0.1


@pytest.mark.parametrize("spec", ["mlp", "convnet:depth=2:width=4:norm=layer:pool=max"])
def test_other_networks(spec: str) -> None:
    images, labels = make_set(10)
    first, second = (
        parameters(train(spec, images, labels, TrainingRecipe(3))) for train in (alone, stacked)
    )
    assert relative_error(second, first) < 1e-9


def test_what_is_not_trained_stays() -> None:
    images, labels = make_set(10)
    networks = [start(SMALL, k) for k in range(STACK)]
    for network in networks:
        next(network.parameters()).requires_grad_(False)
    before = parameters(networks)
    draws = [Draws(CPU) for _ in networks]
    train_stack(networks, draws, images, labels, TrainingRecipe(2), StackedGradient())
    frozen = next(networks[0].parameters()).numel()
    after = parameters(networks)
    assert torch.equal(after[:, :frozen], before[:, :frozen])
    assert not torch.equal(after[:, frozen:], before[:, frozen:])


def test_gradients_hold_no_graph() -> None:
    network = start(SMALL, 0)
    parameters, buffers = stack_module_state([network, network])
    images, labels = make_set(6)
    found = StackedGradient()(
        network, parameters, buffers, images.view(2, 3, *SHAPE), labels.view(2, 3)
    )
    expected = mean_gradient(network, images[3:], labels[3:])
    for gradient, one in zip(found.values(), expected, strict=True):
        assert not gradient.requires_grad
        torch.testing.assert_close(gradient[1], one)


def test_bfloat16_is_near() -> None:
    images, labels = make_set(10)
    recipe = TrainingRecipe(5)
    first = parameters(alone(SMALL, images.float(), labels, recipe))
    second = parameters(stacked(SMALL, images.float(), labels, recipe, StackedGradient(bf16=True)))
    assert 1e-7 < relative_error(second, first) < 0.02


def test_a_compiled_stack_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []

    def compile_eagerly(function: object, **options: object) -> object:
        compiled.append(function)
        return original(function, backend="aot_eager", **options)

    original = torch.compile
    monkeypatch.setattr(torch, "compile", compile_eagerly)
    images, labels = make_set(10)
    recipe = TrainingRecipe(2, batch_size=6)  # the second batch is smaller, and not compiled
    first = parameters(stacked(SMALL, images, labels, recipe))
    gradient = StackedGradient(compile=True)
    second = parameters(stacked(SMALL, images, labels, recipe, gradient))
    assert relative_error(second, first) < 1e-9 and len(compiled) == 1


class Dropping(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x.flatten(1), 0.5, self.training)


class Deciding(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) if float(x.sum()) > 1 else -x.flatten(1)


class Centring(nn.Module):
    """Subtracts a running mean, which it either changes in place or replaces."""

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        self.in_place = in_place
        self.register_buffer("mean", torch.zeros(1, *SHAPE))

    def forward(self, x: Tensor) -> Tensor:
        if self.training and self.in_place:
            self.mean.lerp_(x.detach().mean(0, keepdim=True), 0.5)
        elif self.training:
            self.mean = self.mean.lerp(x.detach().mean(0, keepdim=True), 0.5)
        return (x - self.mean).flatten(1)


def test_networks_that_cannot_be_stacked() -> None:
    assert obstacle(create_network(SMALL, 1, 10, (8, 8)), SHAPE) is None
    batch_norm = create_network("convnet:depth=1:width=4:norm=batch", 1, 10, (8, 8))
    assert str(obstacle(batch_norm, SHAPE)).startswith("training changes its buffer")
    linear = nn.Linear(64, 10)
    assert obstacle(nn.Sequential(nn.Flatten(), nn.Dropout(0.5), linear), SHAPE) == (
        "it has dropout"
    )
    assert obstacle(nn.Sequential(nn.Flatten(), nn.Dropout(0.0), linear), SHAPE) is None
    assert obstacle(nn.Sequential(Dropping(), linear), SHAPE) == "it has dropout"
    assert obstacle(nn.Sequential(Deciding(), linear), SHAPE) is not None
    for in_place in (True, False):
        centred = nn.Sequential(Centring(in_place), linear)
        assert obstacle(centred, SHAPE) == "training changes its buffer 0.mean"

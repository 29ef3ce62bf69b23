"""What is computed on the GPU at hand is what the CPU computes; without a GPU both are the CPU.

``make gpu`` runs these tests among others.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from helpers import relative_error
from torch import Tensor, nn

from sdc_ext import with_sdc
from sdc_ext._seeds import Draws, seed_torch
from sdc_ext.adapters.loops.gradient import match_by_class
from sdc_ext.adapters.loops.steps import ClassBatch
from sdc_ext.augment.parse import parse_augmentation
from sdc_ext.matching.adjoints import Adjoint, Direct, InnerLoop, Recompute, Tesla
from sdc_ext.matching.distances import layerwise_cosine
from sdc_ext.matching.minibatches import Minibatch
from sdc_ext.networks.create import create_network
from sdc_ext.networks.functional import FunctionalNetwork
from sdc_ext.training.epochs import accuracy
from sdc_ext.training.gradients import BatchLoss
from sdc_ext.training.recipe import TrainingRecipe, train_from_scratch
from sdc_ext.training.stacked import StackedGradient, train_stack

CPU = torch.device("cpu")
HERE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SHAPE = (3, 16, 16)
SMALL = "convnet:depth=2:width=8"
NETWORKS = [SMALL, f"{SMALL}:norm=layer:pool=max", "mlp"]


@pytest.fixture(autouse=True)
def _exact() -> Iterator[None]:
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


def make_network(spec: str, device: torch.device, seed: int = 0) -> nn.Module:
    """The same network on any device, in float64, where rounding is no excuse."""
    seed_torch(seed, "evaluation")
    return create_network(spec, SHAPE[0], 4, SHAPE[1:]).double().to(device)


def make_images(count: int) -> Tensor:
    seed_torch(0, "iteration")
    return torch.randn(count, *SHAPE, dtype=torch.float64)


@pytest.mark.parametrize("spec", NETWORKS)
def test_a_step_of_gradient_matching(spec: str) -> None:
    def gradient(device: torch.device) -> Tensor:
        network, images = make_network(spec, device), make_images(4).to(device)
        real = make_images(12).to(device)
        batches = [
            ClassBatch(c, lambda c=c: real[3 * c : 3 * c + 3], slice(c, c + 1), lambda x: x)
            for c in range(4)
        ]
        loss_fn = with_sdc(layerwise_cosine, 0.01)
        result = match_by_class(network, images, batches, loss_fn, batch_loss=BatchLoss())
        return result.settled(loss_fn).image_gradient.cpu()

    assert relative_error(gradient(HERE), gradient(CPU)) < 1e-8


@pytest.mark.parametrize("adjoint", [Recompute(), Recompute(3), Direct(), Tesla()])
def test_an_inner_loop(adjoint: Adjoint) -> None:
    def gradients(device: torch.device) -> list[Tensor]:
        student = FunctionalNetwork(make_network(SMALL, device).train())
        images = make_images(8).to(device).requires_grad_()
        lr = torch.tensor(0.1, dtype=torch.float64, device=device, requires_grad=True)
        labels = torch.arange(8, device=device) % 4
        rows = torch.arange(8, device=device)
        batches = [Minibatch(rows, lambda x: x)] * 3
        start = student.initial_parameters().requires_grad_()
        loop = InnerLoop(student, start, images, labels, lr, batches)
        end, norms = adjoint.unroll(loop)
        found = torch.autograd.grad((end**2).sum() + norms.sum(), [images, lr])
        return [one.cpu() for one in found]

    for here, there in zip(gradients(HERE), gradients(CPU), strict=True):
        assert relative_error(here, there) < 1e-8


@pytest.mark.parametrize(
    "spec",
    [
        "color_crop_cutout_flip_scale_rotate",
        "dc:crop_scale_rotate_noise",
    ],
)
@pytest.mark.parametrize("each", [False, True], ids=["siamese", "each image"])
def test_augmentations(spec: str, each: bool) -> None:
    images = make_images(6)
    for draw in range(12):
        seed_torch(0, "iteration", draw)
        replay = parse_augmentation(spec).draw(SHAPE[1:], 6 if each else 1)
        torch.testing.assert_close(replay(images.to(HERE)).cpu(), replay(images))


@pytest.mark.parametrize("stacked", [False, True], ids=["one by one", "stacked"])
def test_training(stacked: bool) -> None:
    recipe = TrainingRecipe(4, lr=0.02, batch_size=5, augmentation="color_crop_flip_rotate")
    images, labels = make_images(12), torch.arange(12) % 4

    def trained(device: torch.device, stacked: bool) -> Tensor:
        networks, draws = [], []
        for seed in range(3):
            networks.append(make_network(SMALL, device, seed))
            if stacked:
                draws.append(Draws(device))
            else:
                batch = images.to(device), labels.to(device)
                train_from_scratch(networks[-1], *batch, recipe, BatchLoss())
        if stacked:
            batch = images.to(device), labels.to(device)
            train_stack(networks, draws, *batch, recipe, StackedGradient())
        test = [(images.to(device), labels.to(device))]
        assert all(accuracy(network, test) > 0.25 for network in networks)
        vectors = [nn.utils.parameters_to_vector(n.parameters()) for n in networks]
        return torch.stack(vectors).detach().cpu()

    assert relative_error(trained(HERE, stacked), trained(CPU, False)) < 1e-8


def test_streams_of_draws_take_turns() -> None:
    def draw() -> list[float]:
        return [float(torch.rand(())), float(torch.rand((), device=HERE))]

    alone = []
    for seed in range(2):
        seed_torch(seed, "evaluation")
        alone.append([draw(), draw()])
    streams = []
    for seed in range(2):
        seed_torch(seed, "evaluation")
        streams.append(Draws(HERE))
    in_turns: list[list[list[float]]] = [[], []]
    for _ in range(2):
        for stream, drawn in zip(streams, in_turns, strict=True):
            with stream:
                drawn.append(draw())
    assert in_turns == alone

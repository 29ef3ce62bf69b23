"""Expert trajectories: training against the originals' numbers, storing, reading, refusing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from helpers import Golden, relative_error
from rich.console import Console
from torch import Tensor, nn

from sdc_ext.adapters.loops.expert_labels import first_correct, mean_correct_logits
from sdc_ext.data.preprocessing import Preprocessing
from sdc_ext.data.real import RealData, Split
from sdc_ext.engine.experts import train_store
from sdc_ext.errors import DivergenceError, InputError
from sdc_ext.experts.gsam import gsam_direction
from sdc_ext.experts.recipe import ExpertRecipe
from sdc_ext.experts.replay_buffers import ReplayBuffers
from sdc_ext.experts.store import ExpertInfo, ExpertStore, open_experts
from sdc_ext.experts.train import fill_store, train_expert
from sdc_ext.matching.inner_loop import unroll
from sdc_ext.matching.minibatches import whole_set
from sdc_ext.networks.create import create_network
from sdc_ext.networks.functional import FunctionalNetwork
from sdc_ext.networks.registry import register_network

GSAM_CASES = (
    "ftd_gsam_3x12_alpha0p3_adaptive",
    "ftd_gsam_3x12_alpha0p4_adaptive",
    "ftd_gsam_3x12_alpha0p4_adaptive_rho2",
)
NETWORK = "convnet:width=4:depth=1"
RECIPE = ExpertRecipe(train_epochs=2, batch_train=8, augmentation="crop_flip")


def real_data(channels: int = 1) -> RealData:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(24) % 3
    images = torch.rand(24, channels, 6, 6, generator=generator) + labels[:, None, None, None] / 3
    split = Split(images / 2, labels)
    statistics = Preprocessing((0.5,) * channels, (0.3,) * channels)
    return RealData("toy", split, split, ("a", "b", "c"), statistics)


def info(data: RealData, recipe: ExpertRecipe = RECIPE, network: str = NETWORK) -> ExpertInfo:
    model = create_network(network, data.channels, 3, data.image_size)
    return ExpertInfo.of(data, network, model, asdict(recipe), seed=0)


def trained(folder: Path, num_experts: int = 2, recipe: ExpertRecipe = RECIPE) -> ExpertStore:
    data = real_data()
    store = ExpertStore.create(folder, info(data, recipe))
    accelerator = Accelerator(cpu=True)
    options = {"num_experts": num_experts, "seed": 0, "accelerator": accelerator}
    fill_store(store, data, NETWORK, recipe, **options)
    return store


def rows(store: ExpertStore, expert: int) -> list[Tensor]:
    return [store.parameters(expert, epoch) for epoch in range(store.epochs + 1)]


class Projecting(nn.Module):
    """Has random features in a buffer."""

    def __init__(self, channels: int, classes: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.register_buffer("projection", torch.randn(channels * size[0] * size[1], 8))
        self.register_buffer("scale", torch.ones(8))
        self.linear = nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.flatten(1) @ self.projection * self.scale)


def test_networks_with_random_buffers_have_no_experts(tmp_path: Path) -> None:
    register_network("projecting", Projecting)
    with pytest.raises(InputError, match="'projecting' has a random buffer projection, which"):
        train_store(
            real_data(),
            "projecting",
            RECIPE,
            num_experts=1,
            seed=0,
            accelerator=Accelerator(cpu=True),
            console=Console(quiet=True),
            folder=tmp_path / "experts",
        )
    assert not list(tmp_path.iterdir())


# --- training ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GSAM_CASES)
def test_gsam_steps_are_the_originals(golden: Callable[[str], Golden], name: str) -> None:
    case = golden(name)
    network = case.network()
    student = FunctionalNetwork(network)
    theta = student.initial_parameters()
    for step, (x, y) in enumerate(zip(case["x"], case["y"], strict=True)):

        def gradient(at: Tensor, x: Tensor = x, y: Tensor = y) -> Tensor:
            return student.mean_gradient(at, x, y)

        if step == 0:
            assert relative_error(gradient(theta), case["grad_first_step"]) < 1e-10
        meta = case.meta
        direction = gsam_direction(gradient, theta, rho=meta["rho"], alpha=meta["alpha"])
        assert relative_error(direction, case["direction"][step]) < 1e-9
        theta = theta - meta["lr"] * direction
        assert relative_error(theta, case["params_after"][step]) < 1e-10


def test_sgd_expert_is_a_plain_training_loop() -> None:
    data = real_data()
    torch.manual_seed(1)
    network = create_network(NETWORK, 1, 3, (6, 6)).train()
    student = FunctionalNetwork(network)
    images = data.normalize(data.train.images)
    recipe = replace(RECIPE, augmentation="none", train_epochs=1, lr_teacher=0.1)
    torch.manual_seed(5)
    start = student.initial_parameters()
    trajectory = train_expert(student, start, images, data.train.labels, recipe)

    torch.manual_seed(5)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for index in torch.split(torch.randperm(24), 8):
        loss = torch.nn.functional.cross_entropy(network(images[index]), data.train.labels[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert torch.equal(trajectory[0], start)
    torch.testing.assert_close(trajectory[1], student.initial_parameters())


def test_frozen_parameters_of_experts_stay() -> None:
    data = real_data()
    network = create_network(NETWORK, 1, 3, (6, 6)).train()
    next(network.parameters()).requires_grad_(False)
    frozen = next(network.parameters()).numel()
    student = FunctionalNetwork(network)
    images = data.normalize(data.train.images)
    for recipe in (RECIPE, replace(RECIPE, optimizer="gsam")):
        start = student.initial_parameters()
        first, *_, last = train_expert(student, start, images, data.train.labels, recipe)
        assert torch.equal(first[:frozen], last[:frozen])
        assert not torch.equal(first[frozen:], last[frozen:])


def test_an_experts_epoch_is_an_inner_loop_on_real_data() -> None:
    data = real_data()
    torch.manual_seed(1)
    student = FunctionalNetwork(create_network(NETWORK, 1, 3, (6, 6)).train())
    images = data.normalize(data.train.images)
    recipe = replace(RECIPE, augmentation="none", batch_train=24, train_epochs=3)
    start = student.initial_parameters()
    trajectory = train_expert(student, start, images, data.train.labels, recipe)
    batches = [whole_set(24)] * 3
    final, _ = unroll(
        student, start, images, data.train.labels, torch.tensor(recipe.lr_teacher), batches
    )
    torch.testing.assert_close(final, trajectory[-1])


# At the second rate parameters stay finite, and their squares do not.
@pytest.mark.parametrize(("network", "rate"), [("mlp", "1e+30"), ("linear", "1e+21")])
def test_diverged_expert_is_an_error(network: str, rate: str) -> None:
    data = real_data()
    linear = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    model = linear if network == "linear" else create_network(network, 1, 3, (6, 6))
    student = FunctionalNetwork(model)
    recipe = replace(RECIPE, lr_teacher=float(rate))
    with pytest.raises(DivergenceError, match=rf"lower `lr_teacher` \(now {re.escape(rate)}\)"):
        train_expert(
            student, student.initial_parameters(), data.train.images, data.train.labels, recipe
        )


# --- the store -----------------------------------------------------------------------------------


def test_store_is_continued_and_ends_the_same(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole", 3)
    parts = trained(tmp_path / "parts", 3)
    (tmp_path / "parts" / "expert-001.safetensors").unlink()
    kept = (tmp_path / "parts" / "expert-000.safetensors").stat().st_mtime_ns
    parts = trained(tmp_path / "parts", 3)
    assert (tmp_path / "parts" / "expert-000.safetensors").stat().st_mtime_ns == kept
    assert len(parts) == 3
    for expert in range(3):
        for ours, theirs in zip(rows(parts, expert), rows(whole, expert), strict=True):
            assert torch.equal(ours, theirs)


def test_an_expert_does_not_depend_on_those_before_it(tmp_path: Path) -> None:
    network, data = "convnet:width=4:depth=1:norm=batch", real_data()

    def store(name: str) -> ExpertStore:
        made = ExpertStore.create(tmp_path / name, info(data, network=network))
        options = {"num_experts": 2, "seed": 0, "accelerator": Accelerator(cpu=True)}
        fill_store(made, data, network, RECIPE, **options)
        return made

    both, one = store("both"), store("one")
    (tmp_path / "one" / "expert-001.safetensors").unlink()
    one = store("one")
    for ours, theirs in zip(rows(one, 1), rows(both, 1), strict=True):
        assert torch.equal(ours, theirs)
    assert one.accuracies() == both.accuracies()


def test_experts_differ_and_move(tmp_path: Path) -> None:
    store = trained(tmp_path)
    assert not torch.equal(store.parameters(0, 0), store.parameters(1, 0))
    assert not torch.equal(store.parameters(0, 0), store.parameters(0, -1))
    assert torch.equal(store.parameters(0, -1), store.parameters(0, store.epochs))
    assert all(0 <= accuracy <= 1 for accuracy in store.accuracies())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"network": "mlp"}, "were made for network convnet:width=4:depth=1, not mlp"),
        ({"fingerprint": "abc"}, "were made for training images with the fingerprint .*, not abc"),
        ({"dataset": "mnist"}, "were made for dataset toy, not mnist"),
        ({"whitening": "abc"}, "were made for ZCA whitening none, not abc"),
        ({"mean": (0.1,)}, r"were made for mean \[0.5\], not \[0.1\]"),
        ({"images": (60, 1, 6, 6)}, r"images \[24, 1, 6, 6\], not \[60, 1, 6, 6\]"),
    ],
)
def test_experts_for_something_else_are_refused(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    trained(tmp_path)
    wanted = replace(info(real_data()), **change)
    model = create_network(NETWORK, 1, 3, (6, 6))
    with pytest.raises(InputError, match=message):
        open_experts(tmp_path, wanted, model)
    with pytest.raises(InputError, match=message):
        ExpertStore.create(tmp_path, wanted)


def test_recipe_matters_for_adding_and_not_for_using(tmp_path: Path) -> None:
    trained(tmp_path)
    other = info(real_data(), replace(RECIPE, lr_teacher=0.5))
    model = create_network(NETWORK, 1, 3, (6, 6))
    assert len(open_experts(tmp_path, other, model)) == 2
    with pytest.raises(InputError, match="were made for recipe"):
        ExpertStore.create(tmp_path, other)


def test_missing_and_damaged_stores_are_errors(tmp_path: Path) -> None:
    model = create_network(NETWORK, 1, 3, (6, 6))
    with pytest.raises(InputError, match=r"there is no folder .*none: name one with experts"):
        open_experts(f"{tmp_path}/none", info(real_data()), model)
    with pytest.raises(InputError, match="holds no experts: train them with sdc-ext experts"):
        open_experts(tmp_path, info(real_data()), model)
    store = trained(tmp_path)
    (tmp_path / "expert-000.safetensors").write_bytes(b"x" * 99)
    with pytest.raises(InputError, match=r"expert-000.safetensors is damaged .* train it again"):
        store.parameters(0, 0)
    (tmp_path / "experts.json").write_text("{}")
    with pytest.raises(InputError, match=r"experts.json is damaged"):
        ExpertStore.open(tmp_path)


# --- the originals' files ------------------------------------------------------------------------


def test_replay_buffers_hold_the_same_trajectories(tmp_path: Path) -> None:
    store = trained(tmp_path / "ours")
    model = create_network(NETWORK, 1, 3, (6, 6))
    shapes = [p.shape for p in model.parameters()]
    (written,) = store.export(tmp_path / "theirs", shapes)
    assert written.name == "replay_buffer_0.pt"
    content = torch.load(written, weights_only=True)
    assert [t.shape for t in content[0][0]] == shapes
    buffers = open_experts(tmp_path / "theirs", info(real_data()), model)
    assert isinstance(buffers, ReplayBuffers)
    assert (len(buffers), buffers.epochs) == (2, 2)
    for expert in range(2):
        for epoch in (0, 1, -1):
            ours = store.parameters(expert, epoch)
            assert torch.equal(buffers.parameters(expert, epoch), ours)


def test_replay_buffers_of_another_network_are_refused(tmp_path: Path) -> None:
    shapes = [p.shape for p in create_network(NETWORK, 1, 3, (6, 6)).parameters()]
    trained(tmp_path / "ours").export(tmp_path / "theirs", shapes)
    other = create_network("mlp", 1, 3, (6, 6))
    with pytest.raises(InputError, match="holds experts of another network"):
        open_experts(tmp_path / "theirs", info(real_data(), network="mlp"), other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda trajectories: [], "must have the same length, found none"),
        (lambda ts: [ts[0], ts[1][:-1]], "must have the same length, found 2, 3"),
        (lambda ts: [t[:1] for t in ts], "have no entry after the first one"),
        (lambda ts: [[t[0]] * 3 for t in ts], "are the same at all epochs"),
        (lambda ts: [[[p / 0 for p in e] for e in t] for t in ts], "parameters are not finite"),
    ],
)
def test_unusable_replay_buffers_are_refused(
    tmp_path: Path, change: Callable[[list[Any]], list[Any]], message: str
) -> None:
    model = create_network(NETWORK, 1, 3, (6, 6))
    (written,) = trained(tmp_path / "ours").export(
        tmp_path / "theirs", [p.shape for p in model.parameters()]
    )
    torch.save(change(torch.load(written, weights_only=True)), written)
    with pytest.raises(InputError, match=message):
        open_experts(tmp_path / "theirs", info(real_data()), model)


def test_replay_buffers_are_not_executed(tmp_path: Path) -> None:
    (tmp_path / "replay_buffer_0.pt").write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    with pytest.raises(InputError, match="is damaged, or is not a replay buffer"):
        open_experts(tmp_path, info(real_data()), create_network(NETWORK, 1, 3, (6, 6)))


# --- DATM's start --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["datm_label_init_E3_n6", "datm_label_init_E5_n8"])
def test_soft_labels_are_the_originals_where_these_are_numbers(
    golden: Callable[[str], Golden], name: str
) -> None:
    case = golden(name)
    ours = mean_correct_logits(case["expert_logits"], case["labels"])
    stored = case["soft_labels"]
    finite = stored.isfinite().all(1)
    torch.testing.assert_close(ours[finite], stored[finite], rtol=1e-12, atol=0)
    assert torch.equal(ours.argmax(1), case["labels"])
    assert bool(finite.all()) != case.meta["has_nan"]


def test_images_are_those_that_the_first_expert_gets_right() -> None:
    index = torch.tensor([4, 7, 1, 9, 3])

    def expert(right: set[int]) -> Callable[[Tensor], Tensor]:
        return lambda rest: torch.tensor([2 if int(i) in right else 0 for i in rest])

    experts = [expert({9, 7}), expert({3})]
    assert first_correct(experts, index, 2, 2).tolist() == [7, 9]
    assert first_correct(experts, index, 2, 3).tolist() == [7, 9, 3]
    assert first_correct(experts, index, 2, 4).tolist() == [7, 9, 3, 4]


def test_info_survives_the_disk(tmp_path: Path) -> None:
    store = trained(tmp_path, 1)
    assert ExpertStore.open(tmp_path).info == store.info
    assert json.loads((tmp_path / "experts.json").read_text())["network"] == NETWORK


@pytest.mark.parametrize(
    ("images", "batch"),
    [(2, 16), (112, 16), (1347, 32), (3000, 64), (7679, 128), (7680, 256), (50_000, 256)],
)
def test_batches_of_experts_follow_the_number_of_images(images: int, batch: int) -> None:
    usual = ExpertRecipe(train_epochs=3)
    assert usual.suited_to(images) == replace(usual, batch_train=batch)
    assert RECIPE.suited_to(images) == RECIPE


def test_experts_in_other_precisions_are_read_in_single(tmp_path: Path) -> None:
    trajectory = [[torch.rand(s, dtype=torch.float64) for s in ((3, 2), (3,))] for _ in range(2)]
    torch.save([trajectory], tmp_path / "replay_buffer_0.pt")
    buffers = ReplayBuffers(tmp_path, [torch.Size((3, 2)), torch.Size((3,))])
    assert buffers.parameters(0, 1).dtype == torch.float32


def test_batches_for_few_images_are_not_below_sixteen() -> None:
    assert ExpertRecipe(batch_train=100).suited_to(100).batch_train == 16
    assert ExpertRecipe(batch_train=20).suited_to(100).batch_train == 16
    assert ExpertRecipe(batch_train=8).suited_to(100).batch_train == 8


def test_a_store_goes_before_its_own_export(tmp_path: Path) -> None:
    model = create_network(NETWORK, 1, 3, (6, 6))
    store = trained(tmp_path)
    store.export(tmp_path, [p.shape for p in model.parameters()])
    assert isinstance(open_experts(tmp_path, info(real_data()), model), ExpertStore)

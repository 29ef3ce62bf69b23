"""Representative real images: clusters, batches, their refreshing, resuming and processes."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from helpers import launch, same
from torch import Tensor, nn

from sdc_ext import InputError, distill, train_experts, with_sdc
from sdc_ext.adapters import Task
from sdc_ext.adapters.loops import DistributionMatching, GradientMatching, ImageState
from sdc_ext.adapters.loops import representative as module
from sdc_ext.adapters.loops.representative import nearest_to_centres, representative_indices
from sdc_ext.cli import main
from sdc_ext.data import RealData, load_data
from sdc_ext.sets import SyntheticSet
from sdc_ext.sets.history import read_history

NETWORK = "convnet:width=4:depth=1"
QUICK: dict[str, Any] = {
    "network": NETWORK,
    "batch_real": 4,
    "num_eval": 1,
    "epoch_eval_train": 1,
    "progress": False,
}


def blobs() -> tuple[Tensor, list[int]]:
    """Three clouds of a point and its four neighbours each, and the positions of the points."""
    offsets = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    centres = torch.tensor([[0.0, 0.0], [100.0, 0.0], [0.0, 100.0]])
    return (centres[:, None] + offsets).flatten(0, 1), [2, 7, 12]


def best_of_seeds(features: Tensor, n: int) -> set[int]:
    """The choice that the most seeds make, since k-means starts from random samples."""
    choices = [frozenset(nearest_to_centres(features, n, seed).tolist()) for seed in range(15)]
    return set(max(choices, key=choices.count))


def test_the_sample_in_the_middle_of_each_cluster_is_chosen() -> None:
    features, middle = blobs()
    assert best_of_seeds(features, 3) == set(middle)


@pytest.mark.parametrize("n", [1, 2, 7, 14, 15])
def test_as_many_samples_as_clusters_are_chosen_and_none_twice(n: int) -> None:
    features, _ = blobs()
    for seed in range(3):
        chosen = nearest_to_centres(features, n, seed)
        assert chosen.dtype == torch.int64 and len(set(chosen.tolist())) == len(chosen) == n


def test_equal_samples_are_chosen_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chosen = nearest_to_centres(torch.ones(9, 3), 4, 0)
    assert len(set(chosen.tolist())) == 4


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 1e30])
def test_features_that_are_not_finite_leave_a_choice(value: float) -> None:
    features, _ = blobs()
    features[3, 1] = value
    assert nearest_to_centres(features, 4, 0).tolist() == [0, 1, 2, 3]


def test_the_seed_decides_and_nothing_else() -> None:
    features = torch.randn(600, 30)
    first, again, other = (nearest_to_centres(features, 20, seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def task_of(data: RealData | None = None, ipc: int = 1, network: str = NETWORK) -> Task:
    return Task(data or load_data("digits"), ipc, network, Accelerator(cpu=True))


def uneven_data() -> RealData:
    """Two classes, the second of which has three images."""
    labels = torch.tensor([0] * 20 + [1] * 3)
    images = torch.rand(23, 1, 8, 8)
    return load_data((images, labels), name="uneven")


def test_every_class_gets_images_of_its_own() -> None:
    task = task_of()
    for label, index in enumerate(
        representative_indices(task, task.new_network(), 6, candidates=30)
    ):
        assert len(index) == len(set(index.tolist())) == 6
        assert task.data.train.labels[index].tolist() == [label] * 6


def test_classes_smaller_than_a_batch_are_used_whole() -> None:
    task = task_of(uneven_data())
    sizes = [len(index) for index in task.class_indices]
    assert min(sizes) < 4 < max(sizes)
    found = representative_indices(task, task.new_network(), 4, candidates=16)
    assert [len(index) for index in found] == [min(4, size) for size in sizes]
    smallest = sizes.index(min(sizes))
    assert sorted(found[smallest].tolist()) == task.class_indices[smallest].tolist()


def test_the_chunks_of_the_features_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = []
    for at_once in (256, 7):
        monkeypatch.setattr(module, "_AT_ONCE", at_once)
        torch.manual_seed(0)
        task = task_of()
        chosen.append(representative_indices(task, task.new_network(), 5, candidates=40))
    assert all(torch.equal(a, b) for a, b in zip(*chosen, strict=True))


@pytest.mark.parametrize("network", [NETWORK, f"{NETWORK}:norm=batch"])
def test_the_network_is_left_as_it_was(network: str) -> None:
    task = task_of(network=network)
    own = task.new_network()
    before = {name: value.clone() for name, value in own.state_dict().items()}
    representative_indices(task, own, 4, candidates=16)
    assert all(m.training for m in own.modules())
    assert all(torch.equal(value, before[name]) for name, value in own.state_dict().items())


@pytest.fixture
def clusterings(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """The networks whose features were clustered so far."""
    seen: list[nn.Module] = []
    cluster = module.representative_indices

    def noted(task: Task, network: nn.Module, *args: Any, **options: Any) -> list[Tensor]:
        seen.append(network)
        return cluster(task, network, *args, **options)

    monkeypatch.setattr(module, "representative_indices", noted)
    return seen


DC_EVERY_3 = GradientMatching(sampling="representative", refresh_every=3, batch_real=4)


@pytest.mark.parametrize(
    ("loop", "iterations", "expected"),
    [
        (DC_EVERY_3, 7, 3),
        (replace(DC_EVERY_3, outer_loop=4), 2, 2),
        (replace(DC_EVERY_3, outer_loop=2), 5, 3),
        (DistributionMatching(sampling="representative", refresh_every=3, batch_real=4), 6, 2),
        (GradientMatching(batch_real=4), 7, 0),
    ],
    ids=["dc", "dc-four-updates", "dc-two-updates", "dm", "random"],
)
def test_clusters_are_refreshed_after_so_many_updates(
    loop: GradientMatching | DistributionMatching,
    iterations: int,
    expected: int,
    clusterings: list[nn.Module],
) -> None:
    task = task_of(ipc=1)
    state = loop.start(task)
    clusterings.clear()  # if the initial images needed one
    loss_fn = with_sdc(loop.matching_loss(), 0.002)
    for iteration in range(iterations):
        loop.step(state, task, loss_fn, iteration)
    assert len(clusterings) == expected


def test_the_same_images_serve_until_they_are_refreshed() -> None:
    task, network = task_of(), task_of().new_network()
    state = ImageState.initial(task, "noise", 0.1)
    draw = partial(state.real_batches, task, network, batch_real=4, refresh_every=2)
    batches = [draw(sampling="representative") for _ in range(4)]
    joined = [torch.cat(batch or []) for batch in batches]
    assert torch.equal(joined[0], joined[1]) and torch.equal(joined[2], joined[3])
    assert not torch.equal(joined[1], joined[2])
    assert draw(sampling="random") is None


@pytest.mark.parametrize("method", ["dc", "dsa", "dcc", "dsac", "dm"])
def test_resumed_runs_equal_uninterrupted_ones(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop: Any = DistributionMatching if method == "dm" else GradientMatching
    given = QUICK | {
        "sampling": "representative",
        "init": "representative",
        "refresh_every": 2,
        "iterations": 5,
        "share": 0.2,
    }
    if method in ("dcc", "dsac"):
        given |= {"outer_warmup": 1}
    whole = distill(method, out=tmp_path / "whole", **given)
    step = loop.step

    def interrupted(self: Any, *args: Any) -> dict[str, float]:
        if args[-1] == 3:  # the images of iteration 2 serve once more
            raise KeyboardInterrupt
        return dict(step(self, *args))

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(loop, "step", interrupted)
        distill(method, out=tmp_path / "parts", **given)
    parts = distill(method, out=tmp_path / "parts", resume=True, **given)
    same(parts.images, whole.images)
    assert read_history(tmp_path / "parts") == read_history(tmp_path / "whole")


@pytest.mark.parametrize("method", ["dc", "dsac", "dm"])
def test_two_processes_equal_one(method: str, tmp_path: Path) -> None:
    command = (
        f"distill {method} --network {NETWORK} --num-eval 1 --epoch-eval-train 1 --iterations 3 "
        "--batch-real 4 --sampling representative --refresh-every 2 --init representative --out"
    )
    if method == "dsac":
        command = command.replace("--out", "--outer-loop 3 --inner-loop 2 --out")
    for processes in (1, 2):
        launch(processes, tmp_path, *command.split(), str(processes))
    one, two = (SyntheticSet.load(tmp_path / str(processes)).images for processes in (1, 2))
    torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", ["dc", "dm"])
def test_initial_images_are_real_ones_of_their_class(method: str) -> None:
    task = task_of(ipc=3)
    loop: Any = {"dc": GradientMatching, "dm": DistributionMatching}[method]
    state = loop(init="representative").start(task)
    assert_real(state.images.detach(), state.labels, task)


def assert_real(images: Tensor, labels: Tensor, task: Task) -> None:
    train = task.data.normalize(task.data.train.images).flatten(1)
    nearest = torch.cdist(images.flatten(1), train, compute_mode="donot_use_mm_for_euclid_dist")
    distance, position = nearest.min(1)
    assert float(distance.max()) < 1e-5
    assert len(set(position.tolist())) == len(images)
    assert torch.equal(task.data.train.labels[position], labels)


def test_trajectories_start_from_representative_images(tmp_path: Path) -> None:
    experts = tmp_path / "experts"
    quiet: dict[str, Any] = {"network": NETWORK, "progress": False}
    train_experts("mtt", num_experts=1, train_epochs=2, out=experts, **quiet)
    made = distill(
        "mtt",
        experts=experts,
        out=tmp_path / "set",
        **{"pix_init": "representative", "iterations": 1, "lr_img": 1e-9, "syn_steps": 1},
        **{"expert_epochs": 1, "max_start_epoch": 1, "num_eval": 1, "epoch_eval_train": 1},
        **quiet,
    )
    assert_real(made.images, made.labels, task_of())


def test_easy_samples_are_chosen_among_representative_ones(tmp_path: Path) -> None:
    distill(
        "dc",
        out=tmp_path / "set",
        **QUICK | {"sampling": "representative", "tau_quantile": 0.5, "iterations": 2},
    )
    assert read_history(tmp_path / "set")["easy_share"] == [0.5, 0.5]


def test_random_images_are_the_default(tmp_path: Path) -> None:
    made, said = (
        distill("dc", out=tmp_path / name, **QUICK | {"iterations": 2, **more})
        for name, more in (("default", {}), ("random", {"sampling": "random"}))
    )
    same(made.images, said.images)


def test_a_network_that_diverged_ends_the_run_as_usual(tmp_path: Path) -> None:
    arguments = f"distill dc --network {NETWORK} --num-eval 1 --epoch-eval-train 1 --iterations 9"
    more = "--batch-real 4 --sampling representative --refresh-every 1 --lr-img 1e30 --out"
    assert main([*arguments.split(), *more.split(), str(tmp_path / "set")]) == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sampling": "clusters"}, "unknown sampling 'clusters'"),
        ({"sampling": "representative", "refresh_every": 0}, "`refresh_every` must be a whole"),
        ({"refresh_every": 5}, "`refresh_every` has no effect with these settings of dc"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        distill("dc", out=tmp_path / "set", **QUICK | settings)
    assert not (tmp_path / "set").exists()

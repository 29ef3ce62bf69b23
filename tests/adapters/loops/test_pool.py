"""Sets distilled for several networks: what is drawn, matched, resumed and recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from helpers import launch
from unrolled import OneExpert

import sdc_ext
from sdc_ext import distill
from sdc_ext._seeds import seed_torch
from sdc_ext.adapters import Task
from sdc_ext.adapters.loops import TrajectoryMatching
from sdc_ext.adapters.loops.balance import PoolBalance
from sdc_ext.adapters.loops.segments import Segment
from sdc_ext.data import load_data
from sdc_ext.engine import Callback
from sdc_ext.errors import InputError
from sdc_ext.experts import ExpertPool
from sdc_ext.networks import create_network, pool_of
from sdc_ext.sets import SyntheticSet
from sdc_ext.sets.history import read_history

POOL = ("convnet:width=4:depth=1", "convnet:width=6:depth=2:norm=none", "mlp")
SHORT = {"iterations": 4, "eval_every": 4, "num_eval": 1, "epoch_eval_train": 1, "progress": False}
STEPS = {"syn_steps": 2, "expert_epochs": 1, "max_start_epoch": 2}


def task_of(*networks: str, experts: bool = False) -> Task:
    parts = [OneExpert(network) for network in networks]
    pool = ExpertPool(parts) if experts else None
    return Task(load_data("digits"), 1, ",".join(networks), Accelerator(cpu=True), experts=pool)


@pytest.fixture(scope="module")
def experts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two experts of each network, and one of another network beside them."""
    root = tmp_path_factory.mktemp("experts")
    for name, network in enumerate((*POOL, "convnet:width=3:depth=1")):
        sdc_ext.train_experts(
            *("mtt", "digits"),
            **{"num_experts": 2, "train_epochs": 2, "progress": False},
            network=network,
            out=root / str(name),
        )
    return root


def settings_of(method: str, experts: Path) -> dict[str, Any]:
    own: dict[str, Any] = {"network": list(POOL), **SHORT}
    return own | ({"experts": experts, **STEPS} if method in ("mtt", "tesla", "datm") else {})


class StopAfter(Callback):
    """Ends the run after an iteration."""

    def __init__(self, last: int) -> None:
        self.last = last

    def on_step(self, iteration: int, log: Any, state: Any) -> None:
        if iteration == self.last:
            raise KeyboardInterrupt


def test_every_network_moves_the_images_as_far_as_the_first() -> None:
    balance = PoolBalance()
    random = torch.Generator().manual_seed(0)
    moved: dict[int, list[float]] = {0: [], 1: [], 2: []}
    for iteration in range(300):
        member = iteration % 3
        gradient = (1.0, 300.0, 0.004)[member] * torch.randn(50, generator=random)
        moved[member].append(float(balance.scaled(gradient, member).norm()))
    means = [sum(norms) / len(norms) for norms in moved.values()]
    assert means == pytest.approx([means[0]] * 3, rel=0.05)
    assert moved[1][0] == pytest.approx(moved[0][0])  # from its first gradient on


def test_a_pool_of_one_is_not_scaled() -> None:
    balance, gradient = PoolBalance(), torch.randn(5)
    assert all(balance.scaled(gradient * k, 0).equal(gradient * k) for k in (1, 2, 3))
    assert balance.scaled(torch.zeros(5), 1).equal(torch.zeros(5))


def test_names_of_a_pool() -> None:
    assert pool_of("convnet:width=4, mlp") == ("convnet:width=4", "mlp")
    with pytest.raises(InputError, match="names mlp twice: name each network once"):
        pool_of("mlp,convnet, mlp")
    with pytest.raises(InputError, match="has an empty name"):
        pool_of("mlp,")


def test_every_network_is_drawn_equally_often_and_by_the_seed() -> None:
    task = task_of(*POOL)
    drawn = []
    for iteration in range(300):
        seed_torch(0, "iteration", iteration)
        drawn.append(task.draw_member(iteration))
    assert [abs(drawn.count(k) - 100) < 30 for k in range(3)] == [True] * 3
    seed_torch(0, "iteration", 7)
    assert task.draw_member(7) == drawn[7]
    assert drawn[0] == 0  # whatever the seed: it sets the scale of the others


def test_a_pool_of_one_takes_no_random_number() -> None:
    torch.manual_seed(0)
    ours = task_of(POOL[0]).new_network()
    torch.manual_seed(0)
    plain = create_network(POOL[0], 1, 10, (8, 8))
    for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_segment_is_of_the_network_that_is_drawn() -> None:
    task = task_of(*POOL, experts=True)
    for member in range(3):
        segment = Segment.draw(task, member, range(2), 1)
        network = task.new_network(member)
        assert segment.start.numel() == sum(p.numel() for p in network.parameters())


def test_experts_of_a_pool_stand_one_after_the_other() -> None:
    pool = ExpertPool([OneExpert(network) for network in POOL])
    assert len(pool) == 3
    assert torch.equal(pool.parameters(2, 1), OneExpert("mlp").parameters(0, 1))
    with pytest.raises(IndexError):
        pool.parameters(3, 0)


def test_experts_for_another_number_of_networks_are_refused() -> None:
    task = Task(
        load_data("digits"), 1, ",".join(POOL), Accelerator(cpu=True), experts=OneExpert("mlp")
    )
    with pytest.raises(InputError, match="3 networks, but there are experts for 1"):
        Segment.draw(task, 0, range(1), 1)


def test_the_memory_budget_is_that_of_the_largest_network() -> None:
    loop = TrajectoryMatching(**STEPS, memory_budget=0.001)
    both, small, large = (
        loop.note(loop.start(task), task)
        for task in (task_of(*names, experts=True) for names in (POOL[1:], POOL[1:2], POOL[2:]))
    )
    assert both == large != small


@pytest.mark.parametrize("method", ["dsa", "dm", "mtt", "datm"])
def test_resumed_equals_uninterrupted(method: str, experts: Path, tmp_path: Path) -> None:
    chosen = {**settings_of(method, experts), "share": 0.1}
    whole = distill(method, **chosen, out=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        distill(method, **chosen, out=tmp_path / "parts", callbacks=[StopAfter(2)])
    parts = distill(method, **chosen, out=tmp_path / "parts", resume=True)
    assert torch.equal(whole.images, parts.images)
    assert whole.info.network == ",".join(POOL)
    assert whole.info.value("network") == ",".join(POOL)
    assert whole.info.eval_network == POOL[0]
    assert whole.info.settings["eval_network"]["source"] == "the first network of the pool"
    history = read_history(tmp_path / "whole")
    assert all(lam > 0 for lam in history["lam"])  # it follows the share, whatever is drawn


def test_two_processes_equal_one(experts: Path, tmp_path: Path) -> None:
    options = ["--network", ",".join(POOL)]
    for name, value in settings_of("mtt", experts).items():
        if name not in ("network", "progress"):
            options += [f"--{name.replace('_', '-')}", str(value)]
    for number in (1, 2):
        launch(number, tmp_path, "distill", "mtt", *options, "--out", str(number))
    alone, together = (SyntheticSet.load(tmp_path / name) for name in ("1", "2"))
    torch.testing.assert_close(together.images, alone.images, rtol=1e-4, atol=1e-5)


def test_experts_are_found_among_subfolders(experts: Path, tmp_path: Path) -> None:
    chosen = {**SHORT, **STEPS, "network": [POOL[0], "convnet:width=5:depth=1"]}
    with pytest.raises(InputError, match=r"for convnet:width=5:depth=1, got none .*: train them"):
        distill("mtt", **chosen, experts=experts, out=tmp_path / "out")
    (tmp_path / "twice").mkdir()
    for name in ("a", "b"):
        (tmp_path / "twice" / name).symlink_to(experts / "0")
    with pytest.raises(InputError, match=r"got several \(2 experts.* and 2 experts"):
        distill("mtt", **chosen, experts=tmp_path / "twice", out=tmp_path / "out")


def test_a_network_that_does_not_fit_stops_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="network 'convnt'"):
        distill("dm", **SHORT, network=[POOL[0], "convnt"], out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_each_network_of_a_pool_is_compiled_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.compile", lambda function, **_: function)
    pool = ["convnet:width=4:depth=1", "convnet:width=4:depth=1:act=sigmoid", "mlp"]
    plain, compiled = (
        distill("dc", network=pool, seed=1, compile=compile, out=tmp_path / str(compile), **SHORT)
        for compile in (False, True)
    )
    torch.testing.assert_close(compiled.images, plain.images)

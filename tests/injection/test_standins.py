from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from repaired import install_repair, needed, without_gpu

from sdc_ext.injection.names import is_installed
from sdc_ext.injection.patches import Patches


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    without_gpu(monkeypatch)


def test_wandb_keeps_settings_and_forgets_the_rest(patches: Patches) -> None:
    from argparse import Namespace

    before = sys.modules.get("wandb")
    said = install_repair("wandb", "import wandb", patches)
    assert said == []
    import wandb

    assert wandb.run is None
    run = wandb.init(sync_tensorboard=False, project="x", job_type="y", config=Namespace(ipc=1))
    assert wandb.config._items == {"ipc": 1}
    wandb.config.update({"lr": 2}, allow_val_change=True)
    wandb.config["seed"] = 3
    assert (wandb.config.ipc, run.config.lr, wandb.config.get("seed")) == (1, 2, 3)
    assert not hasattr(wandb.config, "missing")
    assert isinstance(wandb.run.name, str)
    wandb.run.summary["best"] = wandb.summary.worst = 1
    assert wandb.summary.best == 1
    wandb.log({"image": wandb.Image(torch.zeros(3)), "all": wandb.Histogram([1])}, step=1)
    table = wandb.Table(columns=["a", "b"])
    table.add_data(1, 2)
    assert table.data == [[1, 2]]
    wandb.watch(None, log="all")
    wandb.save("x")
    wandb.define_metric("a").anything(1)
    with wandb.init(name="second", config={"ipc": 2}) as second:
        second.log({})
        second.log_artifact(wandb.Artifact("a", type="b").add_file("c"))
    assert (wandb.run.name, dict(wandb.config)) == ("second", {"ipc": 2})
    from wandb.sdk import anything

    assert anything is not None
    wandb.finish()
    assert wandb.run is None
    assert len(said) == 1
    patches.undo()
    assert sys.modules.get("wandb") is before


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("mlflow", "import mlflow\nmlflow.log_metric('a', 1)\nwith mlflow.start_run(): pass"),
        ("neptune", "import neptune.new as n\nrun = n.init(project='x')\nrun['a'].log(1)"),
        ("tensorboardX", "from tensorboardX import SummaryWriter as W\nW('a').add_scalar('a', 1)"),
        (
            "tensorboard",
            "from torch.utils.tensorboard import SummaryWriter\n"
            "w = SummaryWriter(log_dir='x')\nw.add_image('a', 1)\nw.close()\n",
        ),
    ],
)
def test_loggers_log_nothing(name: str, text: str, patches: Patches) -> None:
    if is_installed(name):
        assert needed(text) == []
        return
    said = install_repair(name, text, patches)
    exec(text, {})
    assert len(said) == 1


def test_clusters_come_from_scikit_learn(patches: Patches) -> None:
    centers = torch.tensor([[0.0, 9.0], [9.0, 0.0], [-9.0, -9.0]])
    points = centers.repeat(5, 1) + 0.1 * torch.randn(15, 2, generator=torch.manual_seed(0))
    for name in ("kmeans_pytorch", "fast_pytorch_kmeans"):
        install_repair(name, f"import {name}", patches)
    from fast_pytorch_kmeans import KMeans
    from kmeans_pytorch import kmeans, kmeans_predict

    reference = KMeans(n_clusters=3, mode="euclidean", verbose=1)
    ours = reference.fit_predict(points)
    for distance in ("euclidean", "cosine"):
        labels, found = kmeans(
            X=points, num_clusters=3, distance=distance, device=torch.device("cpu")
        )
        assert labels.dtype == torch.int64 and found.shape == (3, 2)
        assert len({(int(a), int(b)) for a, b in zip(labels, ours, strict=True)}) == 3
        assert torch.equal(kmeans_predict(points, found, distance), labels)
    assert torch.equal(reference.predict(points), ours)
    torch.testing.assert_close(reference.centroids[ours[:3]], points.view(5, 3, 2).mean(0))


def test_missing_packages_fail_where_they_are_used(patches: Patches) -> None:
    text = "import not_installed.deep as d\nfrom not_installed.models import Net\n"
    install_repair("absent", text, patches)
    scope: dict[str, Any] = {}
    exec(text, scope)
    for use in ("Net()", "Net.from_name('b0')", "d.anything()"):
        with pytest.raises(ModuleNotFoundError, match="No module named 'not_installed'"):
            eval(use, scope)


def test_a_package_that_turns_up_is_no_longer_missing(patches: Patches, tmp_path: Path) -> None:
    (tmp_path / "turns_up.py").write_text("value = 3\n")
    install_repair("absent", "import turns_up", patches)
    sys.path.append(str(tmp_path))
    patches.add(lambda: sys.path.remove(str(tmp_path)))
    patches.add(lambda: sys.modules.pop("turns_up", None))
    import turns_up

    assert turns_up.value == 3

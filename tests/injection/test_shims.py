from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from sdc_ext.injection.patches import Patches
from sdc_ext.injection.seeding import seed_everything
from sdc_ext.injection.shims import needed_shims

TEXTS = {
    "wandb": "import wandb\n",
    "cuda": "x = x.cuda()\n",
    "experts": "[p.detach().cpu() for p in net.parameters()]\n",
    "overlap": "randb[:] = randb[0]\n",
    "view": "x = x[a, b].permute(0, 3, 1, 2)\nout = out.view(out.size(0), -1)\n",
}


@pytest.fixture
def patches() -> Iterator[Patches]:
    patches = Patches()
    yield patches
    patches.undo()


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def install(name: str, patches: Patches) -> None:
    (shim,) = needed_shims(TEXTS[name])
    assert shim.name == name
    shim.install(patches)


@pytest.mark.parametrize("name", TEXTS)
def test_each_is_needed_for_its_cause_alone(name: str) -> None:
    assert [shim.name for shim in needed_shims(TEXTS[name])] == [name]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "import os",
        "device = 'cuda' if torch.cuda.is_available() else 'cpu'\ntorch.cuda.manual_seed(0)",
        "from scipy.ndimage.interpolation import rotate",  # still there in this scipy
        "x[:] = y[0]",
        "x.view(3, -1)",
    ],
)
def test_none_is_needed_without_a_cause(text: str) -> None:
    import importlib.util

    if "scipy" in text and importlib.util.find_spec("scipy.ndimage.interpolation") is None:
        pytest.skip("this scipy has dropped it")
    assert needed_shims(text) == []


def test_a_gpu_needs_no_repair_of_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert needed_shims(TEXTS["cuda"] + TEXTS["experts"]) == []


def test_wandb_is_left_alone_where_it_is_installed_and_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.delenv("WANDB_MODE")
    (tmp_path / "wandb.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    assert needed_shims(TEXTS["wandb"]) == []
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert needed_shims(TEXTS["wandb"]) == []
    text = TEXTS["wandb"] + "folder = os.path.join('logged', wandb.run.name)"  # None when offline
    assert [shim.name for shim in needed_shims(text)] == ["wandb"]


def test_scipy(monkeypatch: pytest.MonkeyPatch, patches: Patches) -> None:
    import importlib.util

    import scipy.ndimage

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.delitem(sys.modules, "scipy.ndimage.interpolation", raising=False)
    (shim,) = needed_shims("from scipy.ndimage.interpolation import rotate as scipyrotate")
    shim.install(patches)
    from scipy.ndimage.interpolation import rotate

    assert rotate is scipy.ndimage.rotate


def test_wandb(patches: Patches) -> None:
    from argparse import Namespace

    install("wandb", patches)
    import wandb

    wandb.init(sync_tensorboard=False, project="x", job_type="y", config=Namespace(ipc=1))
    assert wandb.config._items == {"ipc": 1}
    assert isinstance(wandb.run.name, str)
    wandb.log({"image": wandb.Image(torch.zeros(3)), "all": wandb.Histogram([1])}, step=1)
    wandb.finish()
    patches.undo()
    assert "wandb" not in sys.modules


def test_cuda(patches: Patches) -> None:
    install("cuda", patches)
    x = torch.ones(2)
    assert x.cuda() is x
    assert x.to("cuda:0").device.type == x.to(device=torch.device("cuda")).device.type == "cpu"
    assert x.to(torch.device("cuda:0"), torch.float64).dtype == torch.float64
    net = torch.nn.Linear(2, 2).cuda().to("cuda:0")
    assert net.weight.device.type == "cpu"
    patches.undo()
    assert "cuda" not in vars(Tensor)


def test_experts(patches: Patches) -> None:
    x = torch.ones(2)
    assert x.cpu().data_ptr() == x.data_ptr()
    install("experts", patches)
    kept = x.cpu()
    x.zero_()
    assert kept.tolist() == [1, 1]
    assert kept.dtype == x.dtype


def test_overlap(patches: Patches) -> None:
    one = torch.full((1, 1, 1), 2.0)
    with pytest.raises(RuntimeError):
        one[:] = one[0]
    install("overlap", patches)
    one[:] = one[0]
    assert one.item() == 2
    several = torch.tensor([[3.0], [4.0]])
    several[:] = several[0]
    assert several.tolist() == [[3], [3]]


def test_view(patches: Patches) -> None:
    cropped = torch.zeros(2, 4, 4, 1).permute(0, 3, 1, 2)
    features = torch.nn.functional.conv2d(cropped, torch.zeros(2, 1, 3, 3))
    install("view", patches)
    assert features.view(2, -1).shape == (2, 8)
    assert torch.zeros(4).view(2, 2).shape == (2, 2)
    assert torch.zeros(1).view(torch.int32).dtype == torch.int32
    with pytest.raises(RuntimeError, match="invalid for input of size"):
        features.view(3, -1)


def test_seeds_and_clock(patches: Patches) -> None:
    def draw() -> list[float]:
        return [time.time(), time.time(), float(np.random.rand()), float(torch.rand(()))]

    seed_everything(3, patches)
    first = draw()
    patches.undo()
    seed_everything(3, patches)
    assert draw() == first
    assert first[1] - first[0] == pytest.approx(0.001, rel=1e-3)
    patches.undo()
    assert time.time() - first[0] > 10**6
    seed_everything(4, patches)
    assert draw() != first

from __future__ import annotations

import pickle
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from repaired import install_repair, needed, without_gpu

from sdc_ext.injection.names import exists
from sdc_ext.injection.patches import Patches
from sdc_ext.injection.repairs import REPAIRS, lost_names, needed_repairs
from sdc_ext.injection.repairs.moved import MOVED
from sdc_ext.injection.seeding import seed_everything
from sdc_ext.injection.sources import Project

TEXTS = {
    "gpu": "x = x.cuda()\n",
    "experts": "[p.detach().cpu() for p in net.parameters()]\n",
    "parallel": "net = torch.nn.DataParallel(net, device_ids=[0, 1])\n",
    "names": "import numpy as np\nx = np.float\n",
    "wandb": "import wandb\n",
    "kmeans_pytorch": "from kmeans_pytorch import kmeans\n",
    "fast_pytorch_kmeans": "from fast_pytorch_kmeans import KMeans\n",
    "mlflow": "import mlflow\n",
    "absent": "from not_installed.models import Net\ndef f():\n    return Net()\n",
    "overlap": "randb[:] = randb[0]\n",
    "view": "x = x[a, b].permute(0, 3, 1, 2)\nout = out.view(out.size(0), -1)\n",
    "norm": "import torch\nn = torch.linalg.norm(x, dim=(1, 2, 3))\n",
    "zero_grad": "opt.zero_grad()\nx.grad.add_(g)\n",
    "yaml": "import yaml\nyaml.load(f)\n",
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    without_gpu(monkeypatch)


def install(name: str, patches: Patches, text: str | None = None) -> list[str]:
    return install_repair(name, text or TEXTS[name], patches)


def test_the_table_names_each_once() -> None:
    names = [repair.name for repair in REPAIRS]
    assert len(set(names)) == len(names)
    assert all(repair.cause and repair.remedy for repair in REPAIRS)


@pytest.mark.parametrize("name", TEXTS)
def test_each_is_needed_for_its_cause_alone(name: str) -> None:
    assert needed(TEXTS[name]) == [name]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "import os",
        "device = 'cuda' if torch.cuda.is_available() else 'cpu'\ntorch.cuda.manual_seed(0)",
        "import torch\nif torch.cuda.is_available():\n    x.cuda(), torch.cuda.synchronize()",
        "import torch\nnet.to(device)\ntorch.cuda.empty_cache()\ntorch.cuda.device_count()",
        "net = DataParallel(net)",
        "import numpy as np\nnp.int64(1), np.pi.real, np.random.rand(3)",
        "import torch.nn as nn\nnn.functional.relu, nn.Linear.forward",
        "try:\n    import wandb\nexcept ImportError:\n    wandb = None",
        "try:\n    import not_installed\nexcept ImportError:\n    pass",
        "import not_installed\nclass Net(not_installed.Base):\n    pass",  # used at once
        "x[:] = y[0]",
        "x.view(3, -1)",
        "import torch\ntorch.linalg.norm(x, dim=(1, 2))",
        "opt.zero_grad()\nloss.backward()\nx.grad.add_(g)",
        "opt.zero_grad(set_to_none=False)\nx.grad.add_(g)",
        "opt.zero_grad()\nif x.grad is not None:\n    x.grad.zero_()",
        "opt.zero_grad()\nx.grad = g\nx.grad.mul_(2)",
        "def f():\n    opt.zero_grad()\ndef g():\n    x.grad.zero_()",
        "import yaml\nyaml.load(f, Loader=yaml.SafeLoader)",
        "import torch\ntorch.zeros(2)",
        "def broken(:",
    ],
)
def test_none_is_needed_without_a_cause(text: str) -> None:
    assert needed(text) == []


def test_zeros_may_be_used_in_another_function() -> None:
    """SsnL's dataset-distillation adds to gradients in a method that comes before the clearing."""
    adds = "def accumulate(x, g):\n    x.grad.add_(g)\n"
    assert needed(f"{adds}opt.zero_grad()\n") == ["zero_grad"]
    assert needed(f"{adds}loss.backward()\n") == []


def test_a_gpu_needs_no_repair_of_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert needed(TEXTS["gpu"] + TEXTS["experts"] + "import torch\ntorch.load(f, None, w)") == [
        "pickles"
    ]


@pytest.mark.parametrize("old", MOVED)
def test_moved_names_come_back(old: str, patches: Patches) -> None:
    owner, _, name = old.rpartition(".")
    text = f"from {owner} import {name}\n"
    there, root = exists(old), old.partition(".")[0]
    if not exists(root) or not exists(MOVED[old]):
        assert needed(text) == []
        return
    assert needed(text) == ([] if there else ["names"])
    if not there:
        said = install("names", patches, text)
        scope: dict[str, Any] = {}
        exec(text, scope)
        assert scope[name] is not None
        assert len(said) == 1 and f"{old} -> {MOVED[old]}, script.py line 1" in said[0]
        patches.undo()
    assert exists(old) == there


def test_names_that_nothing_replaces_are_reported() -> None:
    text = "import torch, numpy as np\ntorch.not_there(x)\ndef f():\n    np.gone.more, np.Inf\n"
    found = lost_names(Project.of_text(text))
    assert [(p.what, p.line, sure) for p, sure in found] == [
        ("torch.not_there", 2, True),
        ("numpy.gone.more", 4, False),
    ]


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
    said = install("view", patches)
    assert torch.zeros(4).view(2, 2).shape == (2, 2)
    assert said == []
    assert features.view(2, -1).shape == (2, 8)
    assert torch.zeros(1).view(torch.int32).dtype == torch.int32
    with pytest.raises(RuntimeError, match="invalid for input of size"):
        features.view(3, -1)
    assert len(said) == 1


def test_norms_over_more_than_two_dimensions(patches: Patches) -> None:
    x = torch.randn(2, 3, 4, 4)
    said = install("norm", patches)
    torch.testing.assert_close(torch.linalg.norm(x[0, 0]), x[0, 0].norm())
    assert said == []
    norms = torch.linalg.norm(x, dim=(1, 2, 3))
    torch.testing.assert_close(norms, x.flatten(1).norm(dim=1))
    assert len(said) == 1


def test_gradients_are_zero_where_the_script_uses_them(patches: Patches) -> None:
    net = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    said = install("zero_grad", patches)
    for zero in (optimizer.zero_grad, net.zero_grad):
        net(torch.ones(1, 2)).sum().backward()
        zero()
        assert net.weight.grad.abs().sum() == 0
        zero(set_to_none=True)
        assert net.weight.grad is None
    assert len(said) == 1


def test_yaml_gets_its_loader(patches: Patches) -> None:
    import yaml

    said = install("yaml", patches)
    assert yaml.load("lr: 0.1", Loader=yaml.SafeLoader) == {"lr": 0.1}
    assert said == []
    assert yaml.load("t: !!python/tuple [1, 2]") == {"t": (1, 2)}
    assert len(said) == 1


class Old:
    """Something else than a tensor."""


def test_old_files_are_read_with_consent(patches: Patches, tmp_path: Path) -> None:
    torch.save(Old(), tmp_path / "old.pt")
    text = "import torch\ntorch.load(f)\n"
    (found,) = [n for n in needed_repairs(Project.of_text(text)) if n.repair.consent]
    with pytest.raises(pickle.UnpicklingError) as caught:
        torch.load(tmp_path / "old.pt")
    assert found.repair.explains(caught.value)
    assert found.repair.consent in found.advice
    found.install(patches, str)
    assert isinstance(torch.load(tmp_path / "old.pt"), Old)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "old.pt", weights_only=True)


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

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from repaired import install_repair, needed, without_gpu
from torch import Tensor

from sdc_ext.injection.patches import Patches


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    without_gpu(monkeypatch)


GPU = (
    "x.cuda()",
    "x.cuda(0, non_blocking=True)",
    "x.to('cuda')",
    "x.to(0)",
    "x.to(torch.device('cuda:1'), torch.float64)",
    "x.to(device='cuda')",
    "x.pin_memory()",
    "x.type('torch.cuda.DoubleTensor')",
    "x.new_zeros(2, device='cuda')",
    "x.new_tensor([1.0], device=0)",
    "torch.zeros(2, device='cuda')",
    "torch.randn(2, 2, device='cuda:0', requires_grad=True)",
    "torch.randperm(3, device=torch.device('cuda'))",
    "torch.tensor([1.0], device=0)",
    "torch.full((2,), 1.0, device='cuda')",
    "torch.ones_like(x, device='cuda')",
    "torch.cuda.FloatTensor([1.0])",
    "torch.rand(2, generator=torch.Generator(device='cuda').manual_seed(1))",
    "torch.nn.Linear(2, 2).cuda().weight",
    "torch.nn.Linear(2, 2).to('cuda:0').weight",
    "torch.nn.Linear(2, 2).to(0).weight",
    "torch.nn.Linear(2, 2, device='cuda').weight",
    "torch.nn.DataParallel(torch.nn.Linear(2, 2).cuda())(x)",
    "torch.cuda.get_rng_state()",
)


@pytest.mark.parametrize("expression", GPU)
def test_every_spelling_of_a_gpu_means_the_cpu(expression: str, patches: Patches) -> None:
    text = f"import torch\nx = torch.ones(2)\ny = {expression}\n"
    said = install_repair("gpu", "x.cuda()", patches)
    result = eval(expression, {"torch": torch, "x": torch.ones(2)})
    assert result.device.type == "cpu"
    assert len(said) == ("FloatTensor" not in expression)
    patches.undo()
    assert "cuda" not in vars(Tensor)
    found = needed(text)
    silent = ("pin_memory", "device=0", "FloatTensor([")
    assert "gpu" in found or any(word in expression for word in silent)


def test_calls_that_wait_for_a_gpu_do_nothing(patches: Patches) -> None:
    before = torch.cuda.synchronize
    install_repair("gpu", "x.cuda()", patches)
    torch.cuda.synchronize()
    torch.cuda.set_device(0)
    torch.cuda.reset_peak_memory_stats()
    assert torch.cuda.current_device() == 0
    assert torch.cuda.get_device_properties(0).total_memory == 0
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    with torch.cuda.device(0), torch.cuda.stream(torch.cuda.Stream()):
        end.record()
    assert start.elapsed_time(end) >= 0
    with pytest.warns(UserWarning, match="deprecated"):
        torch.set_default_tensor_type("torch.cuda.FloatTensor")
    patches.undo()
    assert torch.cuda.synchronize is before


def test_what_a_gpu_saved_is_loaded(patches: Patches, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(f: Any, map_location: Any = None, **_: Any) -> Any:
        f.read()
        if map_location != "cpu":
            raise RuntimeError("Attempting to deserialize object on a CUDA device but ...")
        return f.tell()

    monkeypatch.setattr(torch, "load", load)
    text = "import torch\ntorch.load(f, weights_only=True)\n"
    assert needed(text) == ["gpu files"]
    said = install_repair("gpu files", text, patches)
    for arguments in ({}, {"map_location": "cuda:0"}, {"map_location": lambda s, _: s.cuda()}):
        file = io.BytesIO(b"1234")
        assert torch.load(file, **arguments) == 4
    assert len(said) == 1 and "saved on one" in said[0] and "script.py line 2" in said[0]


def test_experts(patches: Patches) -> None:
    x = torch.ones(2)
    assert x.cpu().data_ptr() == x.data_ptr()
    install_repair("experts", "[p.detach().cpu() for p in net.parameters()]", patches)
    kept = x.cpu()
    x.zero_()
    assert kept.tolist() == [1, 1]
    assert kept.dtype == x.dtype


def test_devices_that_are_not_there_are_left_out(patches: Patches) -> None:
    said = install_repair("parallel", "DataParallel(net, device_ids=[0, 1])", patches)
    net = torch.nn.DataParallel(torch.nn.Linear(2, 1), device_ids=[0, 1], output_device=1)
    assert net(torch.ones(3, 2)).shape == (3, 1)
    assert len(said) == 1

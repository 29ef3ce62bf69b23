"""Small repairs that let the original scripts run with today's libraries and without a GPU.

Each repair is applied only if its cause is found in the libraries of this machine and in the
source of the script. No repair is meant to change a result.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from sdc_ext.injection.patches import Patches

_TO_GPU = re.compile(r"""\.cuda\(|\b(device|to)\(["']cuda""")


@dataclass(frozen=True)
class Shim:
    """One repair.

    Attributes:
        name: The repair's short name.
        cause: The problem and the repair in words, for users.
        needed: Returns whether a project with this source text has the problem.
        install: Applies the repair.
    """

    name: str
    cause: str
    needed: Callable[[str], bool]
    install: Callable[[Patches], None]


def needed_shims(text: str) -> list[Shim]:
    """Returns the repairs that a script needs on this machine.

    Args:
        text: The source of the script and of the modules of its project.
    """
    return [shim for shim in _SHIMS if shim.needed(text)]


def _scipy_needed(text: str) -> bool:
    if "scipy.ndimage.interpolation" not in text:
        return False
    return importlib.util.find_spec("scipy.ndimage.interpolation") is None


def _install_scipy(patches: Patches) -> None:
    import scipy.ndimage

    alias = ModuleType("scipy.ndimage.interpolation")
    alias.__dict__.update({name: getattr(scipy.ndimage, name) for name in scipy.ndimage.__all__})
    _install_module(alias, patches)


def _wandb_needed(text: str) -> bool:
    if not re.search(r"^\s*import wandb\b", text, re.MULTILINE):
        return False
    mode = os.environ.get("WANDB_MODE", "").lower()
    nameless = mode in ("offline", "dryrun") and "wandb.run.name" in text
    return mode == "disabled" or nameless or importlib.util.find_spec("wandb") is None


def _install_wandb(patches: Patches) -> None:
    """Installs a stand-in for wandb.

    It keeps ``config``, since the original scripts read their settings back from it.
    """
    wandb = ModuleType("wandb")

    def init(config: Any = None, **_: Any) -> Any:
        items = dict(config if isinstance(config, dict) else vars(config or SimpleNamespace()))
        wandb.__dict__["config"] = SimpleNamespace(_items=items, **items)
        return wandb.__dict__["run"]

    def ignore(*_: Any, **__: Any) -> None:
        pass

    run = SimpleNamespace(name=f"offline-{time.strftime('%Y%m%d-%H%M%S')}", log=ignore)
    wandb.__dict__.update(init=init, run=run, log=ignore, finish=ignore, watch=ignore)
    wandb.__dict__.update(Histogram=ignore, Image=ignore, define_metric=ignore)
    init()
    _install_module(wandb, patches)


def _cuda_needed(text: str) -> bool:
    return not torch.cuda.is_available() and bool(_TO_GPU.search(text))


def _install_cuda(patches: Patches) -> None:
    def here(device: Any) -> Any:
        is_device = isinstance(device, (str, torch.device))
        return "cpu" if is_device and str(device).startswith("cuda") else device

    def cuda(_: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda tensor, *args, **kwargs: tensor

    def to(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def replaced(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            if "device" in kwargs:
                kwargs["device"] = here(kwargs["device"])
            return original(tensor, *(here(a) for a in args), **kwargs)

        return replaced

    patches.wrap(Tensor, "cuda", cuda)  # modules move tensor by tensor
    patches.wrap(Tensor, "to", to)


def _experts_needed(text: str) -> bool:
    keeps = re.search(r"\.cpu\(\)\s+for\s+\w+\s+in\s+.*parameters\(\)", text)
    return keeps is not None and not torch.cuda.is_available()


def _install_experts(patches: Patches) -> None:
    def cpu(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def replaced(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            copy = original(tensor, *args, **kwargs)
            return copy.clone() if copy.data_ptr() == tensor.data_ptr() else copy

        return replaced

    patches.wrap(Tensor, "cpu", cpu)


def _overlap_needed(text: str) -> bool:
    if not re.search(r"(\w+)\[:\] = \1\[0\]", text):
        return False
    one = torch.zeros(1, 1, 1)
    try:
        one[:] = one[0]
    except RuntimeError:
        return True
    return False


def _install_overlap(patches: Patches) -> None:
    def setitem(original: Callable[..., None]) -> Callable[..., None]:
        def replaced(tensor: Tensor, index: Any, value: Any) -> None:
            shared = isinstance(value, Tensor) and value.data_ptr() == tensor.data_ptr()
            original(tensor, index, value.clone() if shared else value)

        return replaced

    patches.wrap(Tensor, "__setitem__", setitem)


def _view_needed(text: str) -> bool:
    if not (re.search(r"\.view\(.*-1\)", text) and "].permute(0, 3, 1, 2)" in text):
        return False
    cropped = torch.zeros(2, 4, 4, 1).permute(0, 3, 1, 2)
    features = torch.nn.functional.conv2d(cropped, torch.zeros(2, 1, 3, 3))
    try:
        features.view(2, -1)
    except RuntimeError:
        return True
    return False


def _install_view(patches: Patches) -> None:
    def view(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def replaced(tensor: Tensor, *shape: Any, **kwargs: Any) -> Tensor:
            try:
                return original(tensor, *shape, **kwargs)
            except RuntimeError as error:
                if "view size is not compatible" not in str(error):
                    raise
                return tensor.reshape(*shape)

        return replaced

    patches.wrap(Tensor, "view", view)


_SHIMS = (
    Shim(
        "scipy",
        "scipy.ndimage.interpolation no longer exists: scipy.ndimage takes its place",
        _scipy_needed,
        _install_scipy,
    ),
    Shim(
        "wandb",
        "wandb is missing, disabled, or offline without run names: a stand-in logs nothing",
        _wandb_needed,
        _install_wandb,
    ),
    Shim("cuda", "no GPU: .cuda() and .to('cuda') mean the CPU", _cuda_needed, _install_cuda),
    Shim(
        "experts",
        "no GPU: .cpu() copies, since otherwise all epochs of an expert would equal its last",
        _experts_needed,
        _install_experts,
    ),
    Shim(
        "overlap",
        "this torch refuses x[:] = x[0] for a single element: x[0] is copied first",
        _overlap_needed,
        _install_overlap,
    ),
    Shim(
        "view",
        "this torch refuses some views of cropped one-channel images: they are reshaped instead",
        _view_needed,
        _install_view,
    ),
)


def _install_module(module: ModuleType, patches: Patches) -> None:
    name = module.__name__
    sys.modules[name] = module
    patches.add(lambda: sys.modules.__delitem__(name))

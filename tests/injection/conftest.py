"""What scripts of others find around them when a test runs them in its own process."""

from __future__ import annotations

import importlib.util
import sys
import types
from collections.abc import Iterator

import pytest
import torch
from injected import STANDINS

from sdc_ext.injection.patches import Patches
from sdc_ext.injection.repairs import needed_repairs
from sdc_ext.injection.sources import Project


@pytest.fixture
def doubles() -> Iterator[None]:
    """Float64, and the same random numbers for every test."""
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Float64, the stand-ins' helpers, a clock that stands still, wandb, no leftovers."""
    spec = importlib.util.spec_from_file_location("utils", STANDINS / "gm/utils.py")
    utils = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(utils)
    monkeypatch.setitem(sys.modules, "utils", utils)
    ticks = iter(range(10**6))
    monkeypatch.setattr(utils, "time", types.SimpleNamespace(time=lambda: next(ticks) / 1000))
    monkeypatch.setenv("WANDB_MODE", "disabled")
    patches = Patches()
    for needed in needed_repairs(Project.of_text("import wandb")):
        needed.install(patches, str)
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)
    patches.undo()


@pytest.fixture
def patches() -> Iterator[Patches]:
    patches = Patches()
    yield patches
    patches.undo()

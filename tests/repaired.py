"""Installs single repairs, as the runner does it for the scripts of others."""

from __future__ import annotations

import pytest
import torch

from sdc_ext.injection.patches import Patches
from sdc_ext.injection.repairs import needed_repairs
from sdc_ext.injection.sources import Project


def without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hides GPUs, and switches wandb off."""
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


def needed(text: str) -> list[str]:
    """The names of the repairs that a script needs."""
    return [found.repair.name for found in needed_repairs(Project.of_text(text))]


def install_repair(name: str, text: str, patches: Patches) -> list[str]:
    """Installs a repair that a script needs; returns the list that takes what it says."""
    said: list[str] = []
    for found in needed_repairs(Project.of_text(text)):
        if found.repair.name == name:
            found.install(patches, said.append)
            return said
    raise AssertionError(f"{name} is not needed")

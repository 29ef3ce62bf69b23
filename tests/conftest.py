"""Fixtures and settings that all tests share.

The repository's root is taken off the path, so that the tests import the installed packages and
not the folders beside them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

# Two threads gain nothing on arrays this small, and lose much where cores are shared. NumPy and
# every process that a test starts read it from here.
os.environ["OMP_NUM_THREADS"] = "1"

import hypothesis
import pytest
import torch
from accelerate.state import AcceleratorState

_ROOT = Path(__file__).parent.parent
sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != _ROOT]

from helpers import Golden  # noqa: E402

from sdc_ext.adapters.methods import METHODS  # noqa: E402
from sdc_ext.data.load import DATASETS  # noqa: E402
from sdc_ext.networks.registry import NETWORKS  # noqa: E402


@pytest.fixture
def golden() -> Callable[[str], Golden]:
    return Golden


torch.set_num_threads(1)  # read from the environment too late if torch was imported before

# How long an example takes is a matter of what else the machine does.
hypothesis.settings.register_profile(
    "tests", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("tests")


@pytest.fixture(autouse=True)
def _fresh() -> None:
    """The same random numbers for every test, and no Accelerator of an earlier one."""
    torch.manual_seed(0)
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(autouse=True)
def _registries(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is forgotten after it."""
    for registry in (NETWORKS, DATASETS, METHODS):
        for name in ("_known", "_added"):
            monkeypatch.setattr(registry, name, dict(getattr(registry, name)))

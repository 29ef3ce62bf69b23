"""Whole runs: distilling with any method, with callbacks, checkpoints and experts."""

from sdc_ext.engine.callbacks import Callback as Callback
from sdc_ext.engine.callbacks import StopRun as StopRun
from sdc_ext.engine.engine import Engine as Engine

__all__ = [
    "Callback",
    "Engine",
    "StopRun",
]

"""Runs of any method, with evaluations, callbacks, checkpoints and expert trajectories."""

from sdc_ext.engine.callbacks import Callback as Callback
from sdc_ext.engine.callbacks import StopRun as StopRun
from sdc_ext.engine.engine import Engine as Engine

__all__ = [
    "Callback",
    "Engine",
    "StopRun",
]

"""Whole runs: distilling with any method, and searching for lam."""

from sdc_ext.engine.engine import Engine as Engine
from sdc_ext.engine.tuning import Tuning as Tuning

__all__ = [
    "Engine",
    "Tuning",
]

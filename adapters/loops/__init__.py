"""The loops that the built-in methods share, and building blocks for new loops."""

from sdc_ext.adapters.loops.distribution import DistributionMatching as DistributionMatching
from sdc_ext.adapters.loops.gradient import GradientMatching as GradientMatching
from sdc_ext.adapters.loops.states import ImageState as ImageState
from sdc_ext.adapters.loops.steps import ClassBatch as ClassBatch
from sdc_ext.adapters.loops.steps import StepResult as StepResult
from sdc_ext.adapters.loops.steps import draw_batches as draw_batches
from sdc_ext.adapters.loops.trajectory import TrajectoryMatching as TrajectoryMatching

__all__ = [
    "ClassBatch",
    "DistributionMatching",
    "GradientMatching",
    "ImageState",
    "StepResult",
    "TrajectoryMatching",
    "draw_batches",
]

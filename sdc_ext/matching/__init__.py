"""Computes matching losses, and differentiates the inner loop of trajectory matching."""

from sdc_ext.matching.adjoints import Adjoint as Adjoint
from sdc_ext.matching.adjoints import Direct as Direct
from sdc_ext.matching.adjoints import Recompute as Recompute
from sdc_ext.matching.adjoints import Share as Share
from sdc_ext.matching.adjoints import Tesla as Tesla
from sdc_ext.matching.distances import cosine as cosine
from sdc_ext.matching.distances import layerwise_cosine as layerwise_cosine
from sdc_ext.matching.distances import mean_feature_distance as mean_feature_distance
from sdc_ext.matching.distances import parameter_distance as parameter_distance
from sdc_ext.matching.distances import squared_error as squared_error
from sdc_ext.matching.inner_loop import unroll as unroll
from sdc_ext.matching.minibatches import Minibatch as Minibatch
from sdc_ext.matching.minibatches import draw_minibatches as draw_minibatches

__all__ = [
    "Adjoint",
    "Direct",
    "Minibatch",
    "Recompute",
    "Share",
    "Tesla",
    "cosine",
    "draw_minibatches",
    "layerwise_cosine",
    "mean_feature_distance",
    "parameter_distance",
    "squared_error",
    "unroll",
]

"""Trains and stores expert trajectories, and reads the files of the original repositories."""

from sdc_ext.experts.base import Experts as Experts
from sdc_ext.experts.pool import ExpertPool as ExpertPool
from sdc_ext.experts.recipe import ExpertRecipe as ExpertRecipe
from sdc_ext.experts.replay_buffers import ReplayBuffers as ReplayBuffers
from sdc_ext.experts.store import ExpertInfo as ExpertInfo
from sdc_ext.experts.store import ExpertStore as ExpertStore
from sdc_ext.experts.store import open_experts as open_experts

__all__ = [
    "ExpertInfo",
    "ExpertPool",
    "ExpertRecipe",
    "ExpertStore",
    "Experts",
    "ReplayBuffers",
    "open_experts",
]

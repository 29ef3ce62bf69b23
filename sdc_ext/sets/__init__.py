"""Distilled sets: the folder that anyone can evaluate, and everybody's formats."""

from sdc_ext.sets.export import FORMATS as FORMATS
from sdc_ext.sets.info import Evaluation as Evaluation
from sdc_ext.sets.info import SetInfo as SetInfo
from sdc_ext.sets.loading import load_any as load_any
from sdc_ext.sets.synthetic_set import Distilled as Distilled
from sdc_ext.sets.synthetic_set import SyntheticSet as SyntheticSet

__all__ = [
    "FORMATS",
    "Distilled",
    "Evaluation",
    "SetInfo",
    "SyntheticSet",
    "load_any",
]

"""Stores distilled sets, and reads and writes the formats of other projects."""

from sdc_ext.sets.decoding import Decoder as Decoder
from sdc_ext.sets.export import FORMATS as FORMATS
from sdc_ext.sets.info import Correction as Correction
from sdc_ext.sets.info import Evaluation as Evaluation
from sdc_ext.sets.info import SetInfo as SetInfo
from sdc_ext.sets.loading import Opening as Opening
from sdc_ext.sets.loading import load_set as load_set
from sdc_ext.sets.loading import open_all as open_all
from sdc_ext.sets.loading import open_with_data as open_with_data
from sdc_ext.sets.synthetic_set import Distilled as Distilled
from sdc_ext.sets.synthetic_set import SyntheticSet as SyntheticSet

__all__ = [
    "FORMATS",
    "Correction",
    "Decoder",
    "Distilled",
    "Evaluation",
    "Opening",
    "SetInfo",
    "SyntheticSet",
    "load_set",
    "open_all",
    "open_with_data",
]

"""Loads real data: the bundled digits, torchvision's data sets, image folders, and your own."""

from sdc_ext.data.known import CLASS_COUNTS as CLASS_COUNTS
from sdc_ext.data.known import STATISTICS as STATISTICS
from sdc_ext.data.load import DATASETS as DATASETS
from sdc_ext.data.load import load_data as load_data
from sdc_ext.data.load import register_dataset as register_dataset
from sdc_ext.data.preprocessing import Preprocessing as Preprocessing
from sdc_ext.data.real import RealData as RealData
from sdc_ext.data.real import Split as Split
from sdc_ext.data.whitening import Whitening as Whitening

__all__ = [
    "CLASS_COUNTS",
    "DATASETS",
    "STATISTICS",
    "Preprocessing",
    "RealData",
    "Split",
    "Whitening",
    "load_data",
    "register_dataset",
]

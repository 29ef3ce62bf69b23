"""Augments images, with the same random draw for real and synthetic batches."""

from sdc_ext.augment.base import Augmentation as Augmentation
from sdc_ext.augment.base import NoAugmentation as NoAugmentation
from sdc_ext.augment.base import Normalisation as Normalisation
from sdc_ext.augment.base import Replay as Replay
from sdc_ext.augment.mix import Mix as Mix
from sdc_ext.augment.mix import parse_mix as parse_mix
from sdc_ext.augment.parse import check_augmentation as check_augmentation
from sdc_ext.augment.parse import parse_augmentation as parse_augmentation
from sdc_ext.augment.siamese import SiameseAugmentation as SiameseAugmentation

__all__ = [
    "Augmentation",
    "Mix",
    "NoAugmentation",
    "Normalisation",
    "Replay",
    "SiameseAugmentation",
    "check_augmentation",
    "parse_augmentation",
    "parse_mix",
]

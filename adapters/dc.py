"""DC: matches gradients class by class, starting from noise, without augmentation."""

from sdc_ext.adapters.base import Method
from sdc_ext.adapters.loops.gradient import GradientMatching
from sdc_ext.adapters.recipes.gradient import SHALLOW, dc_rules

DC = Method(
    name="dc",
    reference="Zhao, Mopuri, Bilen: Dataset Condensation with Gradient Matching, ICLR 2021",
    loop=GradientMatching,
    choices={"init": "noise"},
    source="DatasetCondensation main.py",
    rules=dc_rules,
    small_images=SHALLOW,
    selects="last",
    matches="gradients per class",
)

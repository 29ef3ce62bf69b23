"""DM: matches the class means of random networks' features, under DSA's augmentation.

Its loss is a sum over thousands of features and much larger than the norm of a gradient. For the
correction to carry the same weight as in gradient matching, lam has to be larger.
"""

from sdc_ext.adapters.base import Method
from sdc_ext.adapters.loops.distribution import DistributionMatching
from sdc_ext.adapters.recipes.gradient import SHALLOW, dm_rules

DM = Method(
    name="dm",
    reference="Zhao, Bilen: Dataset Condensation with Distribution Matching, WACV 2023",
    loop=DistributionMatching,
    choices={"iterations": 20_000, "eval_every": 2000, "epoch_eval_train": 1000},
    source="DatasetCondensation main_DM.py",
    rules=dm_rules,
    small_images=SHALLOW,
    selects="last",
    matches="mean features per class",
)

"""DM: class means of random networks' features are matched, under DSA's augmentation.

Its loss is a sum over thousands of features and much larger than a gradient's norm, so that lam
must be larger than for gradients to have the same weight.
"""

from sdc_ext.adapters.base import Method
from sdc_ext.adapters.loops.distribution import DistributionMatching
from sdc_ext.adapters.recipes.gradient import dm_rules

DM = Method(
    name="dm",
    reference="Zhao, Bilen: Dataset Condensation with Distribution Matching, WACV 2023",
    loop=DistributionMatching,
    choices={"iterations": 20_000, "eval_every": 2000, "epoch_eval_train": 1000},
    source="DatasetCondensation main_DM.py",
    rules=dm_rules,
    selects="last",
    matches="mean features per class",
)

"""DSA: DC with siamese augmentation, starting from real images.

Real and synthetic images of a class go through the same draw of the augmentation.
"""

from sdc_ext.adapters.base import Method
from sdc_ext.adapters.loops.gradient import GradientMatching
from sdc_ext.adapters.recipes.gradient import SHALLOW, dsa_rules

DSA = Method(
    name="dsa",
    reference=(
        "Zhao, Bilen: Dataset Condensation with Differentiable Siamese Augmentation, ICML 2021"
    ),
    loop=GradientMatching,
    choices={"init": "real"},
    source="DatasetCondensation README",
    rules=dsa_rules,
    small_images=SHALLOW,
    selects="last",
    matches="gradients per class",
)

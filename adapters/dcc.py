"""DCC and DSAC: match the mean gradient of all classes at once, after a class-by-class warm-up.

During the warm-up the correction sums one gradient norm per class; afterwards it is the single
norm of the gradient of all synthetic images. At equal lam it is therefore weaker after the warm-up.
"""

from dataclasses import replace

from sdc_ext.adapters.base import Method
from sdc_ext.adapters.loops.gradient import GradientMatching
from sdc_ext.adapters.recipes.gradient import SHALLOW, dcc_rules, dsac_rules

DCC = Method(
    name="dcc",
    reference=(
        "Lee, Chun, Jung, Yun, Yoon: Dataset Condensation with Contrastive Signals, ICML 2022"
    ),
    loop=GradientMatching,
    choices={"init": "real", "contrast": True},
    source="DCC main.py --contrast",
    rules=dcc_rules,
    small_images=SHALLOW,
    selects="last",
    matches="all classes' gradient",
)

DSAC = replace(DCC, name="dsac", rules=dsac_rules)

"""DCC and DSAC: the mean of all classes' gradients is matched at once, after a warm-up.

The correction is one norm of the gradient of all synthetic images then, and one norm a class
before: at equal lam it is weaker after the warm-up.
"""

from dataclasses import replace

from sdc_ext.adapters.base import Method
from sdc_ext.adapters.loops.gradient import GradientMatching
from sdc_ext.adapters.recipes.gradient import dcc_rules, dsac_rules

DCC = Method(
    name="dcc",
    reference=(
        "Lee, Chun, Jung, Yun, Yoon: Dataset Condensation with Contrastive Signals, ICML 2022"
    ),
    loop=GradientMatching,
    choices={"init": "real", "contrast": True},
    source="DCC main.py --contrast",
    rules=dcc_rules,
    selects="last",
    matches="all classes' gradient",
)

DSAC = replace(DCC, name="dsac", rules=dsac_rules)

"""DCC and DSAC: the mean of all classes' gradients is matched at once, after a warm-up.

The correction is one norm of the gradient of all synthetic images then, and one norm a class
before: at equal lam it is weaker after the warm-up.
"""

from sdc_ext.adapters.base import Method
from sdc_ext.adapters.loops.gradient import GradientMatching
from sdc_ext.adapters.recipes.gradient import dcc_rules, dsac_rules

_REFERENCE = "Lee, Chun, Jung, Yun, Yoon: Dataset Condensation with Contrastive Signals, ICML 2022"
_SOURCE = "DCC main.py --contrast"

DCC = Method(
    name="dcc",
    reference=_REFERENCE,
    loop=GradientMatching,
    choices={"init": "real", "contrast": True},
    source=_SOURCE,
    rules=dcc_rules,
    selects="last",
)

DSAC = Method(
    name="dsac",
    reference=_REFERENCE,
    loop=GradientMatching,
    choices={"init": "real", "contrast": True},
    source=_SOURCE,
    rules=dsac_rules,
    selects="last",
)

"""Sample Difficulty Correction (SDC) for dataset distillation.

``with_sdc`` wraps any matching loss, and ``inject`` corrects a loop without editing it; both need
only torch. Names load on demand, so that importing the package takes no time.
"""

from __future__ import annotations

import importlib.util
from importlib import import_module
from typing import TYPE_CHECKING, Any

from sdc_ext.errors import DivergenceError as DivergenceError
from sdc_ext.errors import InjectionError as InjectionError
from sdc_ext.errors import InputError as InputError

if TYPE_CHECKING:
    from sdc_ext.adapters import register_method as register_method
    from sdc_ext.data import load_data as load_data
    from sdc_ext.data import register_dataset as register_dataset
    from sdc_ext.injection import inject as inject
    from sdc_ext.networks import register_network as register_network
    from sdc_ext.regularizer import gradient_norm as gradient_norm
    from sdc_ext.regularizer import sdc_penalty as sdc_penalty
    from sdc_ext.sdc_loss import SDCLoss as SDCLoss
    from sdc_ext.sdc_loss import with_sdc as with_sdc
    from sdc_ext.sets import load_set as load_set
    from sdc_ext.strength import LogRamp as LogRamp
    from sdc_ext.verbs import audit_set as audit_set
    from sdc_ext.verbs import compare as compare
    from sdc_ext.verbs import compare_plan as compare_plan
    from sdc_ext.verbs import difficulty_of as difficulty_of
    from sdc_ext.verbs import discrepancy_of as discrepancy_of
    from sdc_ext.verbs import distill as distill
    from sdc_ext.verbs import evaluate_set as evaluate_set
    from sdc_ext.verbs import identify_set as identify_set
    from sdc_ext.verbs import membership_of as membership_of
    from sdc_ext.verbs import reproduce as reproduce
    from sdc_ext.verbs import score_set as score_set
    from sdc_ext.verbs import select_set as select_set
    from sdc_ext.verbs import surrogates_of as surrogates_of
    from sdc_ext.verbs import train_experts as train_experts
    from sdc_ext.verbs.tuning import tune as tune

__version__ = "0.1.0"

# The modules of the names.
_ON_DEMAND = {
    "LogRamp": "sdc_ext.strength",
    "SDCLoss": "sdc_ext.sdc_loss",
    "audit_set": "sdc_ext.verbs",
    "compare": "sdc_ext.verbs",
    "compare_plan": "sdc_ext.verbs",
    "difficulty_of": "sdc_ext.verbs",
    "discrepancy_of": "sdc_ext.verbs",
    "distill": "sdc_ext.verbs",
    "evaluate_set": "sdc_ext.verbs",
    "gradient_norm": "sdc_ext.regularizer",
    "identify_set": "sdc_ext.verbs",
    "inject": "sdc_ext.injection",
    "load_data": "sdc_ext.data",
    "load_set": "sdc_ext.sets",
    "membership_of": "sdc_ext.verbs",
    "register_dataset": "sdc_ext.data",
    "register_method": "sdc_ext.adapters",
    "register_network": "sdc_ext.networks",
    "reproduce": "sdc_ext.verbs",
    "score_set": "sdc_ext.verbs",
    "sdc_penalty": "sdc_ext.regularizer",
    "select_set": "sdc_ext.verbs",
    "surrogates_of": "sdc_ext.verbs",
    "train_experts": "sdc_ext.verbs",
    "tune": "sdc_ext.verbs.tuning",
    "with_sdc": "sdc_ext.sdc_loss",
}

__all__ = [
    "DivergenceError",
    "InjectionError",
    "InputError",
    "LogRamp",
    "SDCLoss",
    "audit_set",
    "compare",
    "compare_plan",
    "difficulty_of",
    "discrepancy_of",
    "distill",
    "evaluate_set",
    "gradient_norm",
    "identify_set",
    "inject",
    "load_data",
    "load_set",
    "membership_of",
    "register_dataset",
    "register_method",
    "register_network",
    "reproduce",
    "score_set",
    "sdc_penalty",
    "select_set",
    "surrogates_of",
    "train_experts",
    "with_sdc",
]


def __getattr__(name: str) -> Any:
    if name == "tune" and importlib.util.find_spec("optuna") is None:
        raise InputError("tune needs optuna: pip install 'sdc-ext[tune]'")
    if name in _ON_DEMAND:
        return getattr(import_module(_ON_DEMAND[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

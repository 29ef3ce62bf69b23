"""The verbs of the library, one module each: distil, compare, tune, evaluate, score, and so on.

Each command of the command line calls the verb of the same purpose.
"""

from sdc_ext.verbs.audit import Audited as Audited
from sdc_ext.verbs.audit import audit_set as audit_set
from sdc_ext.verbs.comparison import Compared as Compared
from sdc_ext.verbs.comparison import compare as compare
from sdc_ext.verbs.difficulty import MeasuredDifficulty as MeasuredDifficulty
from sdc_ext.verbs.difficulty import difficulty_of as difficulty_of
from sdc_ext.verbs.discrepancy import MeasuredDiscrepancy as MeasuredDiscrepancy
from sdc_ext.verbs.discrepancy import Measurement as Measurement
from sdc_ext.verbs.discrepancy import discrepancy_of as discrepancy_of
from sdc_ext.verbs.distillation import distill as distill
from sdc_ext.verbs.evaluation import Evaluated as Evaluated
from sdc_ext.verbs.evaluation import evaluate_set as evaluate_set
from sdc_ext.verbs.experts import train_experts as train_experts
from sdc_ext.verbs.identification import Identified as Identified
from sdc_ext.verbs.identification import identify_set as identify_set
from sdc_ext.verbs.membership import MembershipAudit as MembershipAudit
from sdc_ext.verbs.membership import membership_of as membership_of
from sdc_ext.verbs.plans import ComparedPlan as ComparedPlan
from sdc_ext.verbs.plans import Plan as Plan
from sdc_ext.verbs.plans import PlannedRun as PlannedRun
from sdc_ext.verbs.plans import compare_plan as compare_plan
from sdc_ext.verbs.reproduction import Reproduced as Reproduced
from sdc_ext.verbs.reproduction import reproduce as reproduce
from sdc_ext.verbs.scoring import ScoredSet as ScoredSet
from sdc_ext.verbs.scoring import score_set as score_set
from sdc_ext.verbs.selection import select_set as select_set
from sdc_ext.verbs.surrogates import MeasuredSurrogates as MeasuredSurrogates
from sdc_ext.verbs.surrogates import surrogates_of as surrogates_of

__all__ = [
    "Audited",
    "Compared",
    "ComparedPlan",
    "Evaluated",
    "Identified",
    "MeasuredDifficulty",
    "MeasuredDiscrepancy",
    "MeasuredSurrogates",
    "Measurement",
    "MembershipAudit",
    "Plan",
    "PlannedRun",
    "Reproduced",
    "ScoredSet",
    "audit_set",
    "compare",
    "compare_plan",
    "difficulty_of",
    "discrepancy_of",
    "distill",
    "evaluate_set",
    "identify_set",
    "membership_of",
    "reproduce",
    "score_set",
    "select_set",
    "surrogates_of",
    "train_experts",
]

"""Evaluating distilled sets: accuracies, scores, comparisons, difficulty, discrepancies."""

from sdc_ext.evaluation.across import ArmAcross as ArmAcross
from sdc_ext.evaluation.across import across_settings as across_settings
from sdc_ext.evaluation.arms import Arm as Arm
from sdc_ext.evaluation.closeness import Closeness as Closeness
from sdc_ext.evaluation.closeness import compare_with_real as compare_with_real
from sdc_ext.evaluation.closeness import feature_maps as feature_maps
from sdc_ext.evaluation.comparison import Cell as Cell
from sdc_ext.evaluation.comparison import Comparison as Comparison
from sdc_ext.evaluation.comparison import Gain as Gain
from sdc_ext.evaluation.configurations import Training as Training
from sdc_ext.evaluation.difficulty import Difficulty as Difficulty
from sdc_ext.evaluation.difficulty import measure_difficulty as measure_difficulty
from sdc_ext.evaluation.difficulty import score_samples as score_samples
from sdc_ext.evaluation.discrepancies import choose_discrepancies as choose_discrepancies
from sdc_ext.evaluation.evaluator import evaluate as evaluate
from sdc_ext.evaluation.jobs import Job as Job
from sdc_ext.evaluation.jobs import evaluate_sets as evaluate_sets
from sdc_ext.evaluation.jobs import evaluation_jobs as evaluation_jobs
from sdc_ext.evaluation.paired import PairedDifference as PairedDifference
from sdc_ext.evaluation.paired import holm as holm
from sdc_ext.evaluation.results import Result as Result
from sdc_ext.evaluation.results import Results as Results
from sdc_ext.evaluation.results import counted as counted
from sdc_ext.evaluation.results import select_evaluation as select_evaluation
from sdc_ext.evaluation.scores import Scored as Scored
from sdc_ext.evaluation.scores import Scores as Scores
from sdc_ext.evaluation.scores import measure_scores as measure_scores
from sdc_ext.evaluation.selection import select_images as select_images
from sdc_ext.evaluation.selection import selected_set as selected_set
from sdc_ext.evaluation.spread import Spread as Spread
from sdc_ext.evaluation.spread import configuration_names as configuration_names
from sdc_ext.evaluation.spread import spreads as spreads
from sdc_ext.evaluation.summaries import RandomEffects as RandomEffects
from sdc_ext.evaluation.summaries import random_effects as random_effects
from sdc_ext.evaluation.tracking import Drift as Drift
from sdc_ext.evaluation.tracking import warm_up as warm_up

__all__ = [
    "Arm",
    "ArmAcross",
    "Cell",
    "Closeness",
    "Comparison",
    "Difficulty",
    "Drift",
    "Gain",
    "Job",
    "PairedDifference",
    "RandomEffects",
    "Result",
    "Results",
    "Scored",
    "Scores",
    "Spread",
    "Training",
    "across_settings",
    "choose_discrepancies",
    "compare_with_real",
    "configuration_names",
    "counted",
    "evaluate",
    "evaluate_sets",
    "evaluation_jobs",
    "feature_maps",
    "holm",
    "measure_difficulty",
    "measure_scores",
    "random_effects",
    "score_samples",
    "select_evaluation",
    "select_images",
    "selected_set",
    "spreads",
    "warm_up",
]

"""Evaluating sets and comparing them: what is signal, and what is noise."""

from sdc_ext.evaluation.closeness import compare_with_real as compare_with_real
from sdc_ext.evaluation.comparison import Comparison as Comparison
from sdc_ext.evaluation.difficulty import measure_difficulty as measure_difficulty
from sdc_ext.evaluation.difficulty import score_samples as score_samples
from sdc_ext.evaluation.discrepancies import choose_discrepancies as choose_discrepancies
from sdc_ext.evaluation.evaluator import evaluate as evaluate
from sdc_ext.evaluation.paired import PairedDifference as PairedDifference
from sdc_ext.evaluation.results import Result as Result
from sdc_ext.evaluation.scores import Scores as Scores
from sdc_ext.evaluation.selection import select_images as select_images
from sdc_ext.evaluation.tracking import Drift as Drift

__all__ = [
    "Comparison",
    "Drift",
    "PairedDifference",
    "Result",
    "Scores",
    "choose_discrepancies",
    "compare_with_real",
    "evaluate",
    "measure_difficulty",
    "score_samples",
    "select_images",
]

"""Theories of small data sets, and fits that compare them with measurements.

[`solve`][sdc_ext.theory.solve] computes the test error of a perceptron on easy or hard samples.
[`fit_scaling`][sdc_ext.theory.fit_scaling] and [`fit_coverage`][sdc_ext.theory.fit_coverage] fit
scaling laws of distilled sets, and [`compare_coverage`][sdc_ext.theory.compare_coverage] lays two
families of sets side by side, on accuracies that
[`read_accuracies`][sdc_ext.theory.read_accuracies] and [`collect`][sdc_ext.theory.collect] read.
"""

from sdc_ext.theory.accuracies import Series as Series
from sdc_ext.theory.accuracies import collect as collect
from sdc_ext.theory.accuracies import read_accuracies as read_accuracies
from sdc_ext.theory.coverage import Coverage as Coverage
from sdc_ext.theory.coverage import fit_coverage as fit_coverage
from sdc_ext.theory.perceptron import Curve as Curve
from sdc_ext.theory.perceptron import Selection as Selection
from sdc_ext.theory.perceptron import Student as Student
from sdc_ext.theory.perceptron import crossover as crossover
from sdc_ext.theory.perceptron import solve as solve
from sdc_ext.theory.scaling import Scaling as Scaling
from sdc_ext.theory.scaling import fit_scaling as fit_scaling
from sdc_ext.theory.side_by_side import SideBySide as SideBySide
from sdc_ext.theory.side_by_side import compare_coverage as compare_coverage

__all__ = [
    "Coverage",
    "Curve",
    "Scaling",
    "Selection",
    "Series",
    "SideBySide",
    "Student",
    "collect",
    "compare_coverage",
    "crossover",
    "fit_coverage",
    "fit_scaling",
    "read_accuracies",
    "solve",
]

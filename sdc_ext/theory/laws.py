"""The utility laws of distilled sets: error against size, and size against what it must serve.

>>> from pathlib import Path
>>> series = collect(read_accuracies([Path("accuracies.csv")]))  # doctest: +SKIP
>>> [fit_scaling(one).verdict for one in series]  # doctest: +SKIP
"""

from sdc_ext.theory.accuracies import Series as Series
from sdc_ext.theory.accuracies import collect as collect
from sdc_ext.theory.accuracies import read_accuracies as read_accuracies
from sdc_ext.theory.coverage import Coverage as Coverage
from sdc_ext.theory.coverage import fit_coverage as fit_coverage
from sdc_ext.theory.scaling import Scaling as Scaling
from sdc_ext.theory.scaling import fit_scaling as fit_scaling

"""Sample Difficulty Correction (SDC) for dataset distillation.

``with_sdc`` wraps any matching loss, ``inject`` corrects a loop that nobody edits; both need
torch alone. Everything else loads on demand.
"""

from sdc_ext.injection.hooks import inject as inject
from sdc_ext.regularizer import LogRamp as LogRamp
from sdc_ext.regularizer import SDCLoss as SDCLoss
from sdc_ext.regularizer import with_sdc as with_sdc

__version__ = "0.1.0"

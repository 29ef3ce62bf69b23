"""Distillation methods: those built in, and a registry for methods of other packages.

Each built-in method is a short list of choices on top of a loop that several methods share.
"""

from sdc_ext._options import option
from sdc_ext.adapters.base import Loop as Loop
from sdc_ext.adapters.base import Method as Method
from sdc_ext.adapters.base import State as State
from sdc_ext.adapters.methods import METHODS as METHODS
from sdc_ext.adapters.methods import find_method as find_method
from sdc_ext.adapters.methods import get_method as get_method
from sdc_ext.adapters.methods import known_methods as known_methods
from sdc_ext.adapters.methods import register_method as register_method
from sdc_ext.adapters.methods import selects_of as selects_of
from sdc_ext.adapters.settings import Settings as Settings
from sdc_ext.adapters.settings import resolve as resolve
from sdc_ext.adapters.task import Task as Task

__all__ = [
    "METHODS",
    "Loop",
    "Method",
    "Settings",
    "State",
    "Task",
    "find_method",
    "get_method",
    "known_methods",
    "option",
    "register_method",
    "resolve",
]

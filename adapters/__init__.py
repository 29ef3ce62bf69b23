"""The methods of the field, each a page of choices on a shared loop."""

from __future__ import annotations

from sdc_ext.adapters.base import Method as Method
from sdc_ext.adapters.datm import DATM
from sdc_ext.adapters.dc import DC
from sdc_ext.adapters.dcc import DCC, DSAC
from sdc_ext.adapters.dm import DM
from sdc_ext.adapters.dsa import DSA
from sdc_ext.adapters.ftd import FTD
from sdc_ext.adapters.mtt import MTT
from sdc_ext.adapters.tesla import TESLA
from sdc_ext.errors import check_choice
from sdc_ext.evaluation.results import Selects

_METHODS = (DC, DSA, DCC, DSAC, DM, MTT, FTD, TESLA, DATM)
METHODS: dict[str, Method] = {method.name: method for method in _METHODS}


def selects_of(method: str) -> Selects:
    """Which evaluation counts for sets of this name: the last, if no method has it."""
    return METHODS[method].selects if method in METHODS else "last"


def get_method(name: str) -> Method:
    """The method of that name.

    Raises:
        InputError: for an unknown name; lists the known ones.
    """
    return METHODS[check_choice("method", name, METHODS)]

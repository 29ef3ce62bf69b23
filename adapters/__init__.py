"""The methods of the field, each a page of choices on a shared loop; and those of others."""

from __future__ import annotations

from dataclasses import fields

from sdc_ext._options import option
from sdc_ext._registry import Registry
from sdc_ext.adapters.base import Loop as Loop
from sdc_ext.adapters.base import Method as Method
from sdc_ext.adapters.base import State as State
from sdc_ext.adapters.datm import DATM
from sdc_ext.adapters.dc import DC
from sdc_ext.adapters.dcc import DCC, DSAC
from sdc_ext.adapters.dm import DM
from sdc_ext.adapters.dsa import DSA
from sdc_ext.adapters.ftd import FTD
from sdc_ext.adapters.mtt import MTT
from sdc_ext.adapters.settings import Settings as Settings
from sdc_ext.adapters.settings import resolve as resolve
from sdc_ext.adapters.task import Task as Task
from sdc_ext.adapters.tesla import TESLA
from sdc_ext.errors import InputError
from sdc_ext.evaluation.results import Selects

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

_OURS = (DC, DSA, DCC, DSAC, DM, MTT, FTD, TESLA, DATM)

METHODS: Registry[Method] = Registry(
    "method", "sdc_ext.methods", {method.name: method for method in _OURS}
)


def register_method(method: Method) -> Method:
    """Adds a method, which every verb and command then takes by its name.

    A package offers its methods to the command line by entry points of the group
    ``sdc_ext.methods``, each named as the method.

    Raises:
        InputError: If it is named as one of ours, or its loop is no dataclass.
    """
    _check(method)
    METHODS.register(method.name, method)
    return method


def get_method(name: str) -> Method:
    """The method of that name.

    Raises:
        InputError: For an unknown name, with the names that are known; or if the package that
            offers it cannot be loaded.
    """
    return _check(METHODS.get(name))


def find_method(name: str) -> Method | None:
    """The method of that name; None if there is none, or its package cannot be loaded."""
    try:
        return get_method(name)
    except InputError:
        return None


def known_methods() -> list[Method]:
    """All methods, without those whose package cannot be loaded."""
    found = (find_method(name) for name in METHODS.names())
    return [method for method in found if method is not None]


def selects_of(method: str) -> Selects:
    """Which evaluation counts for sets of this name: the last, if no method has it."""
    found = find_method(method)
    return "last" if found is None else found.selects


def _check(method: object) -> Method:
    if not isinstance(method, Method):
        raise InputError(
            f"a method must be a sdc_ext.adapters.Method, got {method!r}: let the entry point name "
            "one"
        )
    # Not is_dataclass, which holds for whatever inherits from one.
    if "__dataclass_fields__" not in vars(method.loop):
        raise InputError(
            f"the loop of method {method.name!r}, {method.loop.__name__}, must be a dataclass: "
            "decorate it with @dataclass(frozen=True)"
        )
    for field in fields(method.loop):
        if "help" not in field.metadata:
            raise InputError(
                f"the setting {field.name!r} of method {method.name!r} has no help: make the field "
                "with sdc_ext.adapters.option"
            )
    return method

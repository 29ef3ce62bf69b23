"""The registry of methods: those built in, those registered, and those of other packages."""

from __future__ import annotations

from dataclasses import fields

from sdc_ext._registry import Registry
from sdc_ext._values import allowed_in
from sdc_ext.adapters.base import Method
from sdc_ext.adapters.datm import DATM
from sdc_ext.adapters.dc import DC
from sdc_ext.adapters.dcc import DCC, DSAC
from sdc_ext.adapters.dm import DM
from sdc_ext.adapters.dsa import DSA
from sdc_ext.adapters.ftd import FTD
from sdc_ext.adapters.mtt import MTT
from sdc_ext.adapters.tesla import TESLA
from sdc_ext.errors import InputError
from sdc_ext.evaluation.results import Selects

_OURS = (DC, DSA, DCC, DSAC, DM, MTT, FTD, TESLA, DATM)

METHODS: Registry[Method] = Registry(
    "method", "sdc_ext.methods", {method.name: method for method in _OURS}
)
"""The methods by name: ours, those that were registered, and those of installed packages."""


def register_method(method: Method) -> Method:
    """Registers a method, which every verb and command then accepts by its name.

    A package offers its methods to the command line through entry points of the group
    ``sdc_ext.methods``, each with the name of its method.

    Args:
        method: The method to add. Its loop is a dataclass, and every field of the loop is declared
            with [`option`][sdc_ext.adapters.option].

    Returns:
        The same method.

    Raises:
        InputError: If the name belongs to a built-in method, the loop is not a dataclass, or one
            of its settings has no help text.
    """
    _check(method)
    METHODS.register(method.name, method)
    return method


def get_method(name: str) -> Method:
    """Returns the method with this name.

    Raises:
        InputError: If no method has this name (the message lists the known ones), or if the
            package that offers it cannot be loaded.
    """
    return _check(METHODS.get(name))


def find_method(name: str) -> Method | None:
    """Returns the method with this name, or None if none exists or its package fails to load."""
    try:
        return get_method(name)
    except InputError:
        return None


def known_methods() -> list[Method]:
    """Returns all methods, except those whose package cannot be loaded."""
    found = (find_method(name) for name in METHODS.names())
    return [method for method in found if method is not None]


def selects_of(method: str) -> Selects:
    """Returns which evaluation counts for a method's sets; ``"last"`` for an unknown method."""
    found = find_method(method)
    return "last" if found is None else found.selects


def _check(method: object) -> Method:
    if not isinstance(method, Method):
        raise InputError(
            f"a method must be an instance of sdc_ext.adapters.Method, got {method!r}: pass an "
            "instance, or point the entry point to one"
        )
    # Not is_dataclass, which is also true of an undecorated subclass of a dataclass.
    if "__dataclass_fields__" not in vars(method.loop):
        raise InputError(
            f"the loop of method {method.name!r}, {method.loop.__name__}, must be a dataclass: "
            "decorate it with @dataclass(frozen=True)"
        )
    for field in fields(method.loop):
        if "help" not in field.metadata:
            raise InputError(
                f"the setting {field.name!r} of method {method.name!r} has no help text: declare "
                "the field with sdc_ext.adapters.option"
            )
        if field.name not in allowed_in(method.loop):
            raise InputError(
                f"the setting {field.name!r} of method {method.name!r} has the type {field.type}, "
                "which no option can have: annotate it with int, float, bool, str or a Literal, "
                "each of them with or without None"
            )
    return method

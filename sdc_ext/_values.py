"""Values that options, settings and arguments take, and their checks.

A kind of value stands in an annotation, as in ``iterations: Count``. Fields of dataclasses of
settings, arguments of verbs and options of the command line are checked by the kinds of their
annotations. The bounds are those that computations survive.
"""

from __future__ import annotations

import functools
import inspect
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from numbers import Real
from pathlib import Path
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    NamedTuple,
    ParamSpec,
    TypeAlias,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from sdc_ext._kinds import Flag, Kind, Many, Number, OneOf, Place, Several, Sides, Text, Whole

P = ParamSpec("P")
R = TypeVar("R")

# Squares of these are finite in double precision, and sums with them in single precision.
_SMALLEST, _LARGEST = 1e-30, 1e30

Count: TypeAlias = Annotated[int, Whole(1)]
"""A number of things, at least 1."""

CountOrZero: TypeAlias = Annotated[int, Whole(0)]
"""A number of things, where 0 has a meaning of its own."""

Processes: TypeAlias = Annotated[int, Whole(1, 1024)]
"""A number of processes of one machine."""

Rate: TypeAlias = Annotated[float, Number(_SMALLEST, _LARGEST)]
"""A learning rate, or another factor that is above 0."""

LearntRate: TypeAlias = Annotated[float, Number(0, math.inf, "()")]
"""A learning rate that a run has learnt, which may have left the bounds of chosen ones."""

Weight: TypeAlias = Annotated[float, Number(_SMALLEST, _LARGEST, or_zero=True)]
"""The weight of a term; 0 leaves it out."""

Decay: TypeAlias = Annotated[float, Number(0, 1, "[)")]
"""A momentum, or the decay of a moving average."""

Share: TypeAlias = Annotated[float, Number(0, 1, "(]")]
"""A part of a whole, above 0."""

Part: TypeAlias = Annotated[float, Number(0, 1)]
"""A part of a whole, possibly none of it or all."""

# NumPy's generators take no larger ones.
Seed: TypeAlias = Annotated[int, Whole(0, 2**32 - 1)]
"""The seed of all random numbers."""

# A stored image is decoded to as many as the square of it, so that a bound keeps small files from
# filling the memory. IDC uses 2 and 3.
LARGEST_FACTOR = 8

Factor: TypeAlias = Annotated[int, Whole(1, LARGEST_FACTOR)]
"""The number of parts per side of a stored image."""

Size: TypeAlias = Annotated[int | tuple[int, int], Sides()]
"""The size of a picture in pixels, as (height, width) or as one number for both."""

Names: TypeAlias = Annotated[Sequence[str], Many(Text(), once=True)]
"""One name or several, each of which counts once; on the command line with commas between them."""

Temperature: TypeAlias = Annotated[float, Number(1e-3, 1e3)]
"""A temperature that softens probabilities."""

Ramp: TypeAlias = Annotated[
    tuple[float, float, int],
    Several(
        (Number(_SMALLEST, _LARGEST), Number(_SMALLEST, _LARGEST), Whole(1)),
        ("START", "END", "ITERATIONS"),
    ),
]
"""Start, end and length of a ramp of lam."""

_PLAIN: dict[Any, Kind] = {
    bool: Flag(),
    int: Whole(-(10**9)),
    float: Number(-_LARGEST, _LARGEST),
    str: Text(),
    Path: Place(),
}


class Allowed(NamedTuple):
    """The values that an annotation allows: those of a kind, and perhaps None."""

    kind: Kind
    or_none: bool


def kind_of(annotation: Any) -> Kind:
    """Returns the kind of value that an annotation allows, apart from None.

    Raises:
        TypeError: If the annotation does not say.
    """
    allowed = allowed_by(annotation)
    if allowed is None:
        raise TypeError(f"{annotation} does not say which values are allowed")
    return allowed.kind


def allowed_by(annotation: Any) -> Allowed | None:
    """Returns what an annotation allows; None if it does not say."""
    if annotation in _PLAIN:
        return Allowed(_PLAIN[annotation], False)
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        kinds = [one for one in inner[1:] if isinstance(one, Kind)]
        return Allowed(kinds[0], False) if kinds else allowed_by(inner[0])
    if origin is Literal:
        return Allowed(OneOf(inner), False)
    if origin in (Union, UnionType):
        return _allowed_by_union([one for one in inner if one is not NoneType], NoneType in inner)
    if origin not in (Sequence, tuple):
        return None
    parts = [allowed_by(one) for one in inner]
    kinds = [part.kind for part in parts if part is not None]
    if origin is Sequence and len(kinds) == 1:
        return Allowed(Many(kinds[0]), False)
    if origin is tuple and kinds and len(kinds) == len(inner):
        return Allowed(Several(tuple(kinds)), False)
    return None


def _allowed_by_union(inner: Sequence[Any], or_none: bool) -> Allowed | None:
    if set(inner) == {str, Path}:
        return Allowed(_PLAIN[Path], or_none)
    found = allowed_by(inner[0]) if len(inner) == 1 else None
    return None if found is None else Allowed(found.kind, or_none)


@functools.cache
def allowed_in(owner: Any) -> Mapping[str, Allowed]:
    """Returns what the annotations of a class or a function allow, by name."""
    hints = get_type_hints(owner, include_extras=True)
    found = {name: allowed_by(annotation) for name, annotation in hints.items()}
    return {name: one for name, one in found.items() if one is not None}


def check_values(owner: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns values as the library uses them, checked by the annotations of a class or function.

    Args:
        owner: The class whose fields, or the function whose arguments, have these names.
        values: Values by name.

    Raises:
        InputError: If a value is not allowed.
    """
    checked = dict(values)
    for name, allowed in allowed_in(owner).items():
        if name in values and not (allowed.or_none and values[name] is None):
            checked[name] = allowed.kind.check(f"`{name}`", values[name])
    return checked


def check_value(name: str, value: Any, annotation: Any) -> Any:
    """Returns one value as the library uses it; see ``check_values``."""
    allowed = allowed_by(annotation)
    if allowed is None or (allowed.or_none and value is None):
        return value
    return allowed.kind.check(f"`{name}`", value)


def is_number(value: Any) -> bool:
    """Returns whether a value is a number, which True and False are not."""
    return isinstance(value, Real) and not isinstance(value, bool)


def plain(value: Any) -> Any:
    """Returns a value of any kind in the form that JSON keeps, and that its kind takes again.

    Paths become texts, numbers of other libraries Python's, and sequences tuples.
    """
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(map(plain, value))
    is_foreign = is_number(value) and not isinstance(value, int | float)  # e.g. NumPy's
    return float(value) if is_foreign else value


def check_fields(instance: Any) -> None:
    """Checks the fields of a dataclass by their annotations, for its ``__post_init__``.

    Raises:
        InputError: If a value is not allowed.
    """
    values = {field.name: getattr(instance, field.name) for field in fields(instance)}
    for name, value in check_values(type(instance), values).items():
        object.__setattr__(instance, name, value)  # also of a frozen dataclass


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Decorates a function so that its arguments are checked by their annotations."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:  # the call itself says best what is wrong
            return function(*args, **kwargs)
        bound.arguments.update(check_values(function, bound.arguments))
        return function(*bound.args, **bound.kwargs)

    return call

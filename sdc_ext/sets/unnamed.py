"""Finds the real data of a stranger's set that does not name them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from sdc_ext.data.real import RealData
from sdc_ext.errors import InputError
from sdc_ext.sets.checks import warn
from sdc_ext.sets.recognition.conclusions import Conclusion
from sdc_ext.sets.recognition.labels import classes_of
from sdc_ext.sets.recognition.origins import DATASET, candidates
from sdc_ext.sets.strangers import Declared, Found, study

Load: TypeAlias = Callable[[str, tuple[int, int] | None], RealData]
"""Loads the data set with a name, its images resized to (height, width) unless that is None."""


def recognised_data(found: Found, load: Load, declared: Declared) -> RealData:
    """Returns the real data to which a set belongs, among those that can be loaded.

    Args:
        found: The set.
        load: Loads real data.
        declared: What the user says of the set.

    Raises:
        InputError: If the set is damaged, none of the data sets with the shape of its images fits,
            or several do.
    """
    found.check()
    names = names_by_shape(found)
    fitting: dict[str, tuple[RealData, Conclusion]] = {}
    seen = []
    for name in names:
        try:
            data = load(name, None)
            origin = _origin(found, data, declared)
        except InputError as error:
            seen.append(f"{name}: {error}")
            continue
        if origin is not None:
            seen.append(f"{name}: {origin.evidence}")
            if _is_of(origin, name):
                fitting[name] = data, origin
    if len(fitting) == 1:
        name, (data, origin) = next(iter(fitting.items()))
        if origin.certainty == "likely":
            warn(found.path, [f"taken for a set of {name}: {origin.evidence}"])
        return data
    shape = "x".join(map(str, found.images.shape[1:]))
    labels = "" if found.labels is None else f" with {classes_of(found.labels)} classes"
    evidence = "; ".join(seen) if seen else f"no data set here has images of {shape}{labels}"
    raise InputError(f"{found.path} does not say what it was made from: pass `data` ({evidence})")


def _origin(found: Found, data: RealData, declared: Declared) -> Conclusion | None:
    """Returns whether a set belongs to data: as it looks, or else as the user declares it.

    What is declared wrongly makes images look like nothing.
    """
    origin = None
    # Nothing else that is declared changes what is seen.
    for said in dict.fromkeys((Declared(), Declared(declared.zca, factor=declared.factor))):
        origin = study(found, data, said).recognition.about(DATASET)
        if origin is not None and _is_of(origin, data.name):
            break
    return origin


def _is_of(origin: Conclusion, name: str) -> bool:
    return origin.conclusion == name and origin.certainty != "unknown"


def names_by_shape(found: Found) -> list[str]:
    """Returns the names of the data sets with the shape and the number of classes of a set."""
    labels, shape = found.labels, tuple(found.images.shape[1:])
    if labels is None:
        return candidates(shape, 0, exact=None)
    return candidates(shape, classes_of(labels), exact=labels.ndim == 2)

"""Gives back names that libraries have removed or moved, where their new place is known."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType

from sdc_ext.injection.names import exists, lookup, uses
from sdc_ext.injection.patches import Patches
from sdc_ext.injection.repairs.repair import Place, Repair, Say, install_module, set_attribute
from sdc_ext.injection.sources import Project, Source


def _same(old: str, new: str, names: str) -> dict[str, str]:
    return {f"{old}.{name}": f"{new}.{name}" for name in names.split()}


# The dotted names of the past, and those of today for the same thing.
MOVED: Mapping[str, str] = {
    **_same("numpy", "builtins", "bool complex float int object str"),
    "numpy.long": "builtins.int",
    "numpy.unicode": "builtins.str",
    "numpy.bool8": "numpy.bool_",
    "numpy.float_": "numpy.float64",
    "numpy.complex_": "numpy.complex128",
    "numpy.string_": "numpy.bytes_",
    "numpy.unicode_": "numpy.str_",
    **dict.fromkeys(("numpy.Inf", "numpy.Infinity", "numpy.infty", "numpy.PINF"), "numpy.inf"),
    "numpy.NaN": "numpy.nan",
    "numpy.NAN": "numpy.nan",
    "numpy.product": "numpy.prod",
    "numpy.cumproduct": "numpy.cumprod",
    "numpy.sometrue": "numpy.any",
    "numpy.alltrue": "numpy.all",
    "numpy.in1d": "numpy.isin",
    "numpy.trapz": "numpy.trapezoid",
    "numpy.row_stack": "numpy.vstack",
    "numpy.round_": "numpy.round",
    "numpy.math": "math",
    **_same("numpy", "numpy.exceptions", "AxisError ComplexWarning VisibleDeprecationWarning"),
    **dict.fromkeys(
        (f"scipy.ndimage.{name}" for name in ("interpolation", "filters", "fourier")),
        "scipy.ndimage",
    ),
    **dict.fromkeys(("scipy.ndimage.morphology", "scipy.ndimage.measurements"), "scipy.ndimage"),
    "scipy.integrate.simps": "scipy.integrate.simpson",
    "scipy.integrate.trapz": "scipy.integrate.trapezoid",
    "scipy.integrate.cumtrapz": "scipy.integrate.cumulative_trapezoid",
    "scipy.interp": "numpy.interp",
    "scipy.linalg.pinv2": "scipy.linalg.pinv",
    "scipy.misc.comb": "scipy.special.comb",
    "scipy.misc.factorial": "scipy.special.factorial",
    "scipy.misc.logsumexp": "scipy.special.logsumexp",
    **_same("scipy.signal", "scipy.signal.windows", "gaussian hann hamming blackman tukey"),
    "sklearn.externals.joblib": "joblib",
    "PIL.Image.ANTIALIAS": "PIL.Image.LANCZOS",
    "PIL.Image.LINEAR": "PIL.Image.BILINEAR",
    "PIL.Image.CUBIC": "PIL.Image.BICUBIC",
    "torch._six.container_abcs": "collections.abc",
    "torch._six.inf": "math.inf",
    "torch._six.int_classes": "builtins.int",
    "torch._six.nan": "math.nan",
    "torch._six.string_classes": "builtins.str",
    "torchvision.models.utils": "torch.hub",
    "torchvision.transforms.RandomSizedCrop": "torchvision.transforms.RandomResizedCrop",
    "torchvision.transforms.Scale": "torchvision.transforms.Resize",
    "torchvision.transforms.functional_pil": "torchvision.transforms._functional_pil",
    "torchvision.transforms.functional_tensor": "torchvision.transforms._functional_tensor",
    **_same("collections", "collections.abc", "Callable Hashable Iterable Iterator Mapping"),
    **_same("collections", "collections.abc", "MutableMapping MutableSequence Sequence Set"),
    "fractions.gcd": "math.gcd",
    "time.clock": "time.perf_counter",
}
_LIBRARIES = {name.partition(".")[0] for name in MOVED}


def lost_names(project: Project) -> list[tuple[Place, bool]]:
    """Returns names that the libraries here lack and no repair gives back, each once.

    Returns:
        The places, and whether their line runs whenever its file is imported.
    """
    found: dict[str, tuple[Place, bool]] = {}
    for source, node, name in _uses(project):
        known = _old_name(name)
        lost = not exists(name) and exists(name.partition(".")[0])
        if lost and not (known and exists(MOVED[known])):
            sure = getattr(node, "lineno", 0) in source.unconditional
            if name not in found or sure:
                found[name] = (Place.of(source, node, name), sure)
    return list(found.values())


def _find(project: Project) -> list[Place]:
    return [
        Place.of(source, node, f"{old} -> {MOVED[old]}")
        for source, node, name in _uses(project)
        if (old := _old_name(name)) and not exists(old) and exists(MOVED[old])
    ]


def _uses(project: Project) -> Iterator[tuple[Source, ast.AST, str]]:
    """Yields the names of libraries that a project uses and does not expect to be missing."""
    for source in project.sources.values():
        for name, node in uses(source):
            known = name.partition(".")[0] in _LIBRARIES and not name.endswith(".*")
            if known and getattr(node, "lineno", 0) not in source.guarded:
                yield source, node, name


def _old_name(name: str) -> str:
    """Returns the entry of the table that a name is, or is inside of; "" for none."""
    return next((old for old in MOVED if name == old or name.startswith(f"{old}.")), "")


def _install(patches: Patches, places: Sequence[Place], say: Say) -> None:
    for old in dict.fromkeys(place.what.partition(" -> ")[0] for place in places):
        value = lookup(MOVED[old])
        owner, _, name = old.rpartition(".")
        if not exists(owner):
            install_module(owner, ModuleType(owner), patches)
        if isinstance(value, ModuleType):
            install_module(old, value, patches)
        else:
            set_attribute(sys.modules.get(owner) or lookup(owner), name, value, patches)
    say()


REPAIRS = (
    Repair(
        "names",
        "the libraries here no longer have names that the script uses",
        "those of today take their place",
        _find,
        _install,
    ),
)

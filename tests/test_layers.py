"""Packages import only what is below them, and no two modules import each other."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter

import pytest
from helpers import ROOT

LEAVES = {"errors", "regularizer", "sdc_loss", "strength"}
LEAVES |= {f"_{name}" for name in ("files", "reading", "options", "registry", "seeds", "memory")}
LEAVES |= {
    "_calls",
    "_families",
    "_figures",
    "_text",
    "_console",
    "_schemas",
    "_kinds",
    "_values",
    "_words",
    "_graphs",
}

# What each package may import beside the leaves and itself.
BELOW: dict[str, set[str]] = {
    "augment": set(),
    "workers": {"networks"},
    "data": set(),
    "networks": set(),
    "injection": set(),
    "training": {"augment", "data", "networks"},
    "matching": {"augment", "networks"},
    "sets": {"data", "networks", "training"},
    "experts": {"augment", "data", "networks", "training", "workers"},
    "evaluation": {"augment", "data", "matching", "networks", "training", "sets", "workers"},
}
_LOOPS = {*BELOW["evaluation"], "matching", "experts", "evaluation"}
BELOW |= {"adapters": _LOOPS, "engine": {*_LOOPS, "adapters"}, "report": {*_LOOPS, "adapters"}}
BELOW["reproduction"] = {*_LOOPS, "adapters"}
BELOW["report"] |= {"reproduction"}
BELOW["verbs"] = {*BELOW["engine"], "engine", "report", "reproduction"}
BELOW["theory"] = {"data", "sets", "evaluation", "report", "workers"}
BELOW["cli"] = {*BELOW, "sdc_ext"}
BELOW["__main__"] = {"cli"}
OF_INJECTION = {"errors", "regularizer", "sdc_loss", "strength", "_graphs", "_words"}

Imports = Mapping[str, set[str]]


def package(module: str) -> str:
    """The package or leaf that a module is in; ``sdc_ext`` for the root's own ``__init__``."""
    return module.split(".")[1] if "." in module else module


def sources() -> dict[str, str]:
    """The source of every module but the root's, whose exports load on demand."""
    folders = {"sdc_ext": ROOT / "sdc_ext", "sdc_ext.adapters": ROOT / "adapters"}
    found = {}
    for name, folder in folders.items():
        for path in folder.rglob("*.py"):
            parts = [name, *path.relative_to(folder).with_suffix("").parts]
            found[".".join(parts).removesuffix(".__init__")] = path.read_text(encoding="utf-8")
    return {module: text for module, text in found.items() if module != "sdc_ext"}


def imports(source: str, modules: set[str]) -> set[str]:
    """What a source imports of ours: at the top, in functions, and for types alone."""

    def named(node: ast.AST) -> Iterator[str]:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in modules else str(node.module)

    found = {name for node in ast.walk(ast.parse(source)) for name in named(node)}
    return {name for name in found if name == "sdc_ext" or name in modules}


def violations(imported: Imports) -> list[str]:
    """Imports of what is not below the module's package, as sentences."""
    found = []
    for module, targets in sorted(imported.items()):
        ours = package(module)
        leaves = OF_INJECTION if ours == "injection" else LEAVES
        allowed = leaves | {ours} | BELOW.get(ours, set())
        wrong = (target for target in sorted(targets) if package(target) not in allowed)
        found += [f"{module} must not import {target}" for target in wrong]
    return found


def circle(imported: Imports) -> list[str]:
    """The modules of one circle of imports, if there is any."""
    try:
        TopologicalSorter(imported).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


@pytest.fixture(scope="module")
def imported() -> dict[str, set[str]]:
    found = sources()
    return {module: imports(text, set(found)) for module, text in found.items()}


def test_every_package_has_its_layer(imported: Imports) -> None:
    assert {package(module) for module in imported} <= LEAVES | set(BELOW)
    assert len(imported) > 100 and imported["sdc_ext.adapters.dc"]


def test_packages_import_only_what_is_below_them(imported: Imports) -> None:
    assert violations(imported) == []


def test_no_modules_import_each_other(imported: Imports) -> None:
    assert circle(imported) == []


@pytest.mark.parametrize(
    "source",
    [
        "from sdc_ext.sets.info import SetInfo",
        "def later():\n    from sdc_ext.sets import info",
        "if TYPE_CHECKING:\n    import sdc_ext.sets.info",
    ],
)
def test_an_import_upwards_is_found(source: str) -> None:
    found = imports(source, {"sdc_ext.sets.info", "sdc_ext.data.real"})
    planted = {"sdc_ext.data.real": found}
    assert violations(planted) == ["sdc_ext.data.real must not import sdc_ext.sets.info"]


def test_a_circle_and_a_wrong_leaf_are_found() -> None:
    planted = {"sdc_ext.data.a": {"sdc_ext.data.b"}, "sdc_ext.data.b": {"sdc_ext.data.a"}}
    assert violations(planted) == [] and len(circle(planted)) == 3
    assert violations({"sdc_ext.injection.hooks": {"sdc_ext._seeds"}})
    assert violations({"sdc_ext.engine.engine": {"sdc_ext"}})

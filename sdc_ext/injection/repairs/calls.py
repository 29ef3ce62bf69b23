"""Lets calls succeed that today's libraries refuse and those of the script's time allowed."""

from __future__ import annotations

import ast
import functools
import inspect
import pickle
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sdc_ext.injection.names import dotted, is_installed
from sdc_ext.injection.patches import Patches
from sdc_ext.injection.repairs.repair import Place, Repair, Say
from sdc_ext.injection.sources import Project, Source
from sdc_ext.injection.syntax import called_name

_OVERLAP = re.compile(r"^(\w+)\[:\] = \1\[0\]$")


def _matching(project: Project, text: str | re.Pattern[str]) -> list[Place]:
    """Returns the places of the assignments and calls whose source matches a pattern."""
    return [
        Place.of(source, node)
        for source, node in project.nodes(ast.Assign, ast.Call)
        if re.search(text, ast.unparse(node))
    ]


def _calls(project: Project, name: str) -> Iterator[tuple[Source, ast.Call]]:
    for source, node in project.nodes(ast.Call):
        if dotted(node.func, source) == name:
            yield source, node


def _fails(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except RuntimeError:
        return True
    return False


def _find_overlap(project: Project) -> list[Place]:
    one = torch.zeros(1, 1, 1)
    refused = _fails(lambda: one.__setitem__(slice(None), one[0]))
    return _matching(project, _OVERLAP) if refused else []


def _install_overlap(patches: Patches, places: Sequence[Place], say: Say) -> None:
    def setitem(original: Callable[..., None]) -> Callable[..., None]:
        def replaced(tensor: Tensor, index: Any, value: Any) -> None:
            shared = isinstance(value, Tensor) and value.data_ptr() == tensor.data_ptr()
            if shared and tensor.shape[:1] == (1,):
                say()
            original(tensor, index, value.clone() if shared else value)

        return replaced

    patches.wrap(Tensor, "__setitem__", setitem)


def _find_view(project: Project) -> list[Place]:
    cropped = torch.zeros(2, 4, 4, 1).permute(0, 3, 1, 2)
    features = nn.functional.conv2d(cropped, torch.zeros(2, 1, 3, 3))
    crops = any("].permute(0, 3, 1, 2)" in text for text in project.texts.values())
    if not crops or not _fails(lambda: features.view(2, -1)):
        return []
    return _matching(project, r"\.view\(.*-1\)$")


def _install_view(patches: Patches, places: Sequence[Place], say: Say) -> None:
    def view(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        @functools.wraps(original)
        def replaced(tensor: Tensor, *shape: Any, **kwargs: Any) -> Tensor:
            try:
                return original(tensor, *shape, **kwargs)
            except RuntimeError as error:
                if "view size is not compatible" not in str(error):
                    raise
                say()
                return tensor.reshape(*shape)

        return replaced

    patches.wrap(Tensor, "view", view)


def _find_norm(project: Project) -> list[Place]:
    if not _fails(lambda: torch.linalg.norm(torch.zeros(1, 1, 1), dim=(0, 1, 2))):
        return []
    return [
        Place.of(source, call, "torch.linalg.norm")
        for source, call in _calls(project, "torch.linalg.norm")
        if any(k.arg == "dim" and _may_be_several(k.value) for k in call.keywords)
    ]


def _may_be_several(dim: ast.AST) -> bool:
    if isinstance(dim, (ast.Tuple, ast.List)):
        return len(dim.elts) > 2
    return isinstance(dim, (ast.Name, ast.Attribute))


def _install_norm(patches: Patches, places: Sequence[Place], say: Say) -> None:
    def norm(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def replaced(
            tensor: Tensor, order: Any = None, dim: Any = None, *args: Any, **kwargs: Any
        ) -> Any:
            order = kwargs.pop("ord", order)
            several = isinstance(dim, (tuple, list)) and len(dim) > 2
            if not several or order not in (None, 2, "fro"):
                return original(tensor, order, dim, *args, **kwargs)
            say()
            return torch.linalg.vector_norm(tensor, 2, dim, *args, **kwargs)

        return replaced

    patches.wrap(torch.linalg, "norm", norm)


def _find_zeros(project: Project) -> list[Place]:
    """Returns the places that use a gradient which the ``zero_grad`` before them removed."""
    by_default = inspect.signature(Optimizer.zero_grad).parameters["set_to_none"].default
    if not by_default:
        return []
    return [place for source in project.sources.values() for place in _uses_of_zeros(source)]


def _uses_of_zeros(source: Source) -> Iterator[Place]:
    events = sorted(_events(source), key=lambda found: found[:2])
    clears = any(event == "zero_grad" for _, event, _ in events)
    before = ""
    for _, event, node in events:
        # A function that begins with adding to a gradient counts on its caller's zeros.
        counts = before == "function" and clears and getattr(node, "attr", "") == "add_"
        if event == "use" and (before == "zero_grad" or counts):
            yield Place.of(source, node, ".grad")
        before = event


def _events(source: Source) -> Iterator[tuple[tuple[int, int], str, ast.AST]]:
    """Yields what a file does with gradients, with the line and column of each."""
    checked = {
        n.lineno
        for node in source.nodes
        if isinstance(node, (ast.If, ast.IfExp)) and ".grad" in ast.unparse(node.test)
        for n in ast.walk(node)
        if isinstance(n, (ast.stmt, ast.expr))
    }
    for node in source.nodes:
        event = _event(node)
        if event and isinstance(node, (ast.stmt, ast.expr)):
            used = event == "use" and node.lineno in checked
            yield (node.lineno, node.col_offset), "check" if used else event, node


def _event(node: ast.AST) -> str:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return "function"
    if isinstance(node, ast.Attribute):
        inner = node.value
        return "use" if isinstance(inner, ast.Attribute) and inner.attr == "grad" else ""
    if isinstance(node, ast.Assign):
        is_grad = any(isinstance(t, ast.Attribute) and t.attr == "grad" for t in node.targets)
        return "assign" if is_grad else ""
    if isinstance(node, ast.Call):
        name = called_name(node)
        chosen = any(k.arg == "set_to_none" for k in node.keywords) or node.args
        return name if name == "backward" or (name == "zero_grad" and not chosen) else ""
    return ""


def _install_zeros(patches: Patches, places: Sequence[Place], say: Say) -> None:
    def zero_grad(original: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(original)
        def replaced(owner: Any, set_to_none: bool = False) -> None:
            say()
            original(owner, set_to_none)

        return replaced

    for owner in (Optimizer, nn.Module):
        patches.wrap(owner, "zero_grad", zero_grad)


def _find_yaml(project: Project) -> list[Place]:
    if not is_installed("yaml"):
        return []
    import yaml

    if inspect.signature(yaml.load).parameters["Loader"].default is not inspect.Parameter.empty:
        return []
    return [
        Place.of(source, call, "yaml.load")
        for source, call in _calls(project, "yaml.load")
        if len(call.args) < 2 and not any(k.arg == "Loader" for k in call.keywords)
    ]


def _install_yaml(patches: Patches, places: Sequence[Place], say: Say) -> None:
    import yaml

    def load(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def replaced(stream: Any, Loader: Any = None) -> Any:
            if Loader is None:
                say()
            return original(stream, Loader or yaml.FullLoader)

        return replaced

    patches.wrap(yaml, "load", load)


def _find_pickles(project: Project) -> list[Place]:
    return [
        Place.of(source, call, "torch.load")
        for source, call in _calls(project, "torch.load")
        if not any(k.arg == "weights_only" for k in call.keywords)
    ]


def _install_pickles(patches: Patches, places: Sequence[Place], say: Say) -> None:
    def load(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def replaced(*args: Any, **kwargs: Any) -> Any:
            if kwargs.get("weights_only") is None:
                say()
                kwargs["weights_only"] = False
            return original(*args, **kwargs)

        return replaced

    patches.wrap(torch, "load", load)


def _is_about_pickles(error: BaseException) -> bool:
    return isinstance(error, pickle.UnpicklingError) and "weights_only" in str(error)


REPAIRS = (
    Repair(
        "overlap",
        "this torch refuses x[:] = x[0] for a single element",
        "x[0] is copied first",
        _find_overlap,
        _install_overlap,
    ),
    Repair(
        "view",
        "this torch refuses some views of cropped one-channel images",
        "they are reshaped instead",
        _find_view,
        _install_view,
    ),
    Repair(
        "norm",
        "torch.linalg.norm refuses more than two dimensions",
        "it is the norm of all elements, as it was",
        _find_norm,
        _install_norm,
    ),
    Repair(
        "zero_grad",
        "zero_grad removes gradients today, and the script uses them afterwards",
        "it sets them to zero, as it did",
        _find_zeros,
        _install_zeros,
    ),
    Repair(
        "yaml",
        "yaml.load wants a loader",
        "it gets yaml.FullLoader, which was its own",
        _find_yaml,
        _install_yaml,
    ),
    Repair(
        "pickles",
        "torch.load refuses files with anything other than tensors",
        "it reads them, which executes the code in them",
        _find_pickles,
        _install_pickles,
        consent="--trust-pickles",
        explains=_is_about_pickles,
    ),
)

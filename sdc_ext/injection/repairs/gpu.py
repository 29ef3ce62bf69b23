"""Lets scripts that ask for a GPU run on a machine without one, on its CPU."""

from __future__ import annotations

import ast
import functools
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from sdc_ext.injection.names import dotted
from sdc_ext.injection.patches import Patches
from sdc_ext.injection.repairs.repair import Place, Repair, Say, set_attribute
from sdc_ext.injection.sources import Project, Source

_GPU = re.compile(r"^(torch\.)?cuda(:\d+|\.\w+Tensor)?$")

# Functions that make tensors, which take the device as a keyword.
_FACTORIES = (
    "arange as_tensor asarray empty empty_like empty_strided eye full full_like linspace logspace "
    "normal ones ones_like rand rand_like randint randint_like randn randn_like randperm range "
    "scalar_tensor sparse_coo_tensor tensor tril_indices triu_indices zeros zeros_like "
    "hann_window hamming_window blackman_window"
)
_METHODS = ("new_empty", "new_full", "new_ones", "new_tensor", "new_zeros")
_TENSORS = ("Bool", "Byte", "Char", "Double", "Float", "Half", "Int", "Long", "Short", "BFloat16")
_EXPERT = re.compile(r"\.cpu\(\)\s+for\s+\w+\s+in\s+.*parameters\(\)")


class _Event:
    """A point in time, as ``torch.cuda.Event`` is one."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self._time = time.perf_counter()

    def record(self, *_: Any) -> None:
        """Sets the point in time."""
        self._time = time.perf_counter()

    def elapsed_time(self, end: _Event) -> float:
        """Returns the milliseconds from this event to another."""
        return 1000 * (end._time - self._time)

    def synchronize(self) -> None:
        """Does nothing, since the CPU has nothing to wait for."""

    def query(self) -> bool:
        """Returns that the event has happened."""
        return True


class _Stream(nullcontext[None]):
    """A queue of work, as ``torch.cuda.Stream`` is one."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def synchronize(self) -> None:
        """Does nothing, since the CPU has nothing to wait for."""

    wait_stream = wait_event = record_event = lambda self, *_: None


def _nothing(*_: Any, **__: Any) -> None:
    pass


def _random_state(*_: Any) -> Tensor:
    return torch.get_rng_state()


# Functions of torch.cuda that fail without a GPU, and what they mean on a CPU.
_STAND_INS: dict[str, Any] = {
    **dict.fromkeys(("init", "synchronize", "set_device", "ipc_collect"), _nothing),
    **dict.fromkeys(("reset_peak_memory_stats", "reset_max_memory_allocated"), _nothing),
    "current_device": lambda: 0,
    "get_device_name": lambda *_: "CPU",
    "get_device_capability": lambda *_: (0, 0),
    "get_device_properties": lambda *_: SimpleNamespace(
        name="CPU", total_memory=0, major=0, minor=0, multi_processor_count=0
    ),
    "mem_get_info": lambda *_: (0, 0),
    "get_rng_state": _random_state,
    "get_rng_state_all": lambda: [],
    "set_rng_state": lambda state, *_: torch.set_rng_state(state),
    "set_rng_state_all": _nothing,
    "device": _Stream,
    "stream": _Stream,
    "Stream": _Stream,
    "Event": _Event,
    "current_stream": _Stream,
    "default_stream": _Stream,
}


def _find_gpu(project: Project) -> list[Place]:
    if torch.cuda.is_available():
        return []
    return [place for source in project.sources.values() for place in _uses_of_gpu(source)]


def _uses_of_gpu(source: Source) -> Iterator[Place]:
    """Yields the places that ask for a GPU whether there is one or not."""
    asked = _where_asked(source)
    for node in source.nodes:
        if getattr(node, "lineno", 0) in asked:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if _GPU.match(node.value):
                yield Place.of(source, node, repr(node.value))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            method = node.func.attr
            name = dotted(node.func, source)
            if method == "cuda" and not name.startswith("torch."):
                yield Place.of(source, node, ".cuda()")
            elif method == "to" and any(_is_number(a) for a in node.args[:1]):
                yield Place.of(source, node, ".to(0)")
            elif name.removeprefix("torch.cuda.") in _STAND_INS:
                yield Place.of(source, node, name)


def _where_asked(source: Source) -> set[int]:
    """Returns the lines that depend on whether there is a GPU."""
    found: set[int] = set()
    for node in source.nodes:
        if isinstance(node, (ast.IfExp, ast.If)) and "cuda.is_available" in ast.unparse(node.test):
            dependent = [node] if isinstance(node, ast.IfExp) else node.body
            found |= {n.lineno for d in dependent for n in ast.walk(d) if hasattr(n, "lineno")}
    return found


def _is_number(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) is int


class _ToCpu:
    """Wraps functions of torch so that they take the CPU where a script asks for a GPU.

    Args:
        say: Says that something was asked for and replaced.
    """

    def __init__(self, say: Say) -> None:
        self._say = say

    def device(self, asked: Any) -> Any:
        """Returns the device to use in place of one that a script names."""
        is_number = isinstance(asked, int) and not isinstance(asked, bool)
        is_named = isinstance(asked, (str, torch.device)) and str(asked).startswith("cuda")
        if not (is_number or is_named):
            return asked
        self._say()
        return "cpu"

    def makes(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Wraps a function that takes a device by keyword."""

        @functools.wraps(original)
        def replaced(*args: Any, **kwargs: Any) -> Any:
            if "device" in kwargs:
                kwargs["device"] = self.device(kwargs["device"])
            return original(*args, **kwargs)

        return replaced

    def moves(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Wraps a method that takes a device first or by keyword."""
        by_keyword = self.makes(original)

        @functools.wraps(original)
        def replaced(owner: Any, *args: Any, **kwargs: Any) -> Any:
            return by_keyword(owner, *map(self.device, args[:1]), *args[1:], **kwargs)

        return replaced

    def stays(self, _: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """Replaces a method that moves a tensor."""

        def replaced(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            self._say()
            return tensor

        return replaced

    def typed(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Wraps a function that takes the name of a type of tensors."""

        def plain(name: Any) -> Any:
            if not isinstance(name, str) or not name.startswith("torch.cuda."):
                return name
            self._say()
            return name.replace("torch.cuda.", "torch.")

        return lambda *args, **kwargs: original(*map(plain, args), **kwargs)

    def chosen(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Wraps a function that takes a device and nothing else."""
        return lambda device: original(self.device(device))

    def said(self, stand_in: Callable[..., Any]) -> Callable[..., Any]:
        """Wraps the stand-in of a function; classes stay as they are."""

        def replaced(*args: Any, **kwargs: Any) -> Any:
            self._say()
            return stand_in(*args, **kwargs)

        return stand_in if isinstance(stand_in, type) else replaced


def _install_gpu(patches: Patches, places: Sequence[Place], say: Say) -> None:
    to_cpu = _ToCpu(say)
    for owner, name in ((Tensor, "to"), (nn.Module, "to"), (nn.Module, "to_empty")):
        patches.wrap(owner, name, to_cpu.moves)
    for name in ("cuda", "pin_memory"):  # modules move tensor by tensor
        patches.wrap(Tensor, name, to_cpu.stays)
    for name in _METHODS:
        patches.wrap(Tensor, name, to_cpu.makes)
    for name in _FACTORIES.split():
        patches.wrap(torch, name, to_cpu.makes)
    patches.wrap(Tensor, "type", to_cpu.typed)
    patches.wrap(torch, "set_default_tensor_type", to_cpu.typed)
    patches.wrap(torch, "set_default_device", to_cpu.chosen)
    set_attribute(torch, "Generator", _generator(to_cpu.device), patches)
    for name in _TENSORS:
        set_attribute(torch.cuda, f"{name}Tensor", getattr(torch, f"{name}Tensor"), patches)
    for name, value in _STAND_INS.items():
        set_attribute(torch.cuda, name, to_cpu.said(value), patches)


def _generator(here: Callable[[Any], Any]) -> type:
    class Generator(torch.Generator):
        def __new__(cls, device: Any = "cpu") -> Generator:
            return super().__new__(cls, here(device))  # type: ignore[call-arg]

    return Generator


def _find_files(project: Project) -> list[Place]:
    if torch.cuda.is_available():
        return []
    return [
        Place.of(source, node, "torch.load")
        for source, node in project.nodes(ast.Call)
        if dotted(node.func, source) == "torch.load"
    ]


def _install_files(patches: Patches, places: Sequence[Place], say: Say) -> None:
    def load(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def replaced(f: Any, map_location: Any = None, *args: Any, **kwargs: Any) -> Any:
            start = f.tell() if hasattr(f, "tell") else None
            try:
                return original(f, map_location, *args, **kwargs)
            except (RuntimeError, AssertionError) as error:
                if "CUDA" not in str(error):
                    raise
            say()
            if start is not None:
                f.seek(start)
            return original(f, "cpu", *args, **kwargs)

        return replaced

    patches.wrap(torch, "load", load)


def _find_experts(project: Project) -> list[Place]:
    if torch.cuda.is_available():
        return []
    return [
        Place.of(source, node, ".cpu()")
        for source, node in project.nodes(ast.ListComp)
        if _EXPERT.search(ast.unparse(node))
    ]


def _install_experts(patches: Patches, places: Sequence[Place], say: Say) -> None:
    def cpu(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        @functools.wraps(original)
        def replaced(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            copy = original(tensor, *args, **kwargs)
            if copy.data_ptr() != tensor.data_ptr():
                return copy
            say()
            return copy.clone()

        return replaced

    patches.wrap(Tensor, "cpu", cpu)


def _find_parallel(project: Project) -> list[Place]:
    return [
        Place.of(source, node, "DataParallel")
        for source, node in project.nodes(ast.Call)
        if ast.unparse(node.func).endswith("DataParallel")
        and (len(node.args) > 1 or any(k.arg == "device_ids" for k in node.keywords))
    ]


def _install_parallel(patches: Patches, places: Sequence[Place], say: Say) -> None:
    def init(original: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(original)
        def replaced(
            parallel: Any, module: Any, device_ids: Any = None, *args: Any, **kwargs: Any
        ) -> None:
            count = torch.cuda.device_count()
            there = [d for d in device_ids or [] if (torch.device("cuda", d).index or 0) < count]
            if device_ids is not None and len(there) < len(device_ids):
                say()
                device_ids, args, kwargs = there or None, (), {}
            original(parallel, module, device_ids, *args, **kwargs)

        return replaced

    patches.wrap(nn.DataParallel, "__init__", init)


REPAIRS = (
    Repair(
        "gpu",
        "there is no GPU",
        "the CPU takes its place",
        _find_gpu,
        _install_gpu,
    ),
    Repair(
        "gpu files",
        "there is no GPU for tensors that were saved on one",
        "torch.load puts them on the CPU",
        _find_files,
        _install_files,
    ),
    Repair(
        "experts",
        "there is no GPU, so .cpu() does not copy and all epochs of an expert equal its last",
        ".cpu() copies",
        _find_experts,
        _install_experts,
    ),
    Repair(
        "parallel",
        "DataParallel names GPUs that this machine lacks",
        "it uses those that are there",
        _find_parallel,
        _install_parallel,
    ),
)

"""Packs cells into bytes that any executor can carry, and carries them out in a worker.

A packed cell needs nothing but this library in the worker: functions and networks of the user's
script travel by value. What all cells share is written to one file, which a worker reads once.
"""

from __future__ import annotations

import os
import pickle
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cloudpickle
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from sdc_ext.errors import InputError
from sdc_ext.networks.registry import NETWORKS

# Cells seed torch's global generators, so a worker with several threads takes one at a time.
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class Outcome:
    """The outcome of a cell.

    Attributes:
        value: What its function returned.
        error: What its function raised; None if it returned.
        where: The lines of the worker's traceback.
    """

    value: Any = None
    error: Exception | None = None
    where: str = ""

    def result(self) -> Any:
        """Returns the value, or raises the error with the worker's traceback as its cause."""
        if self.error is not None:
            raise self.error from RuntimeError(self.where)
        return self.value


@dataclass(frozen=True)
class _Shared:
    """What all cells need, as it travels.

    Attributes:
        function: Takes ``value`` and a cell.
        value: The first argument of ``function``.
        networks: The networks that the user has registered, by name: pickled, or why they are not.
        program: The process of the program.
    """

    function: Callable[[Any, Any], Any]
    value: Any
    networks: Mapping[str, bytes | str]
    program: int

    def register_networks(self) -> None:
        """Makes the user's networks known in a worker."""
        if os.getpid() == self.program:
            return
        for name, sent in self.networks.items():
            NETWORKS.register(name, _received(name, sent))


def write_shared(path: Path, function: Callable[[Any, Any], Any], value: Any) -> None:
    """Writes what all cells share to a file, for ``carry_out``.

    Args:
        path: The file.
        function: The function of all cells.
        value: Its first argument.

    Raises:
        InputError: If the function or its argument cannot be sent to other processes.
    """
    networks = {name: _sent(make) for name, make in NETWORKS.added().items()}
    try:
        with path.open("wb") as file:
            _Pickler(file).dump(_Shared(function, value, networks, os.getpid()))
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        raise InputError(
            f"this work cannot be sent to other processes ({type(error).__name__}: {error}): leave "
            "`workers` out, or define your method and data in a module"
        ) from error


def _sent(make: Callable[..., Any]) -> bytes | str:
    try:
        return bytes(cloudpickle.dumps(make))
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        return f"{type(error).__name__}: {error}"


def _received(name: str, sent: bytes | str) -> Callable[..., Any]:
    if isinstance(sent, str):
        return _unsent(name, sent)
    try:
        make: Callable[..., Any] = pickle.loads(sent)
    except Exception as error:  # importing other people's modules may raise anything
        return _unsent(name, f"{type(error).__name__}: {error}")
    return make


def _unsent(name: str, why: str) -> Callable[..., Any]:
    """Returns a maker of networks that says why there are none; it may not be needed."""

    def refuse(*arguments: Any, **options: Any) -> Any:
        raise InputError(
            f"the network {name!r} cannot be sent to other processes ({why}): leave `workers` out, "
            "or define the network in a module"
        )

    return refuse


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Sends an Accelerator as what the worker makes of its own devices."""

    def reducer_override(self, thing: Any) -> Any:
        """Returns how a thing is made anew, if it is not pickled as usual."""
        if isinstance(thing, Accelerator):
            # Whoever has a GPU and computes on the CPU wants workers to do so, too.
            cpu = torch.accelerator.is_available() and thing.device.type == "cpu"
            return _accelerator, (thing.mixed_precision, cpu, os.getpid())
        return super().reducer_override(thing)


def _accelerator(mixed_precision: str, cpu: bool, program: int) -> Accelerator:
    """Returns the Accelerator of a worker, which has no other processes to wait for."""
    if os.getpid() != program:  # what it computed before may have had another precision
        AcceleratorState._reset_state(reset_partial_state=True)
    cpu = cpu or not torch.accelerator.is_available()
    return Accelerator(cpu=cpu, mixed_precision=mixed_precision)


def carry_out(name: str, shared: str, folder: str, cell: bytes) -> Outcome:
    """Carries out one cell with one thread, whatever the machine, so that its bits are the same.

    Args:
        name: Distinguishes this call from all others.
        shared: The file that ``write_shared`` wrote.
        folder: The folder in which the program was started, to which paths are relative.
        cell: The second argument of the function, pickled.
    """
    del name
    with _ONE_AT_A_TIME, _working_in(Path(folder)), _one_thread():
        try:
            packed = _read_shared(shared)
            packed.register_networks()
            return Outcome(packed.function(packed.value, pickle.loads(cell)))
        except Exception as error:
            return Outcome(error=_sendable(error), where=traceback.format_exc())


@lru_cache(maxsize=1)
def _read_shared(path: str) -> _Shared:
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError(
            f"a worker cannot read {path} ({error.strerror}): start workers that see the folder "
            "of this program under the same path"
        ) from None
    shared: _Shared = pickle.loads(content)
    return shared


def forget_shared() -> None:
    """Frees what cells shared, if this process was itself their worker."""
    _read_shared.cache_clear()


def _sendable(error: Exception) -> Exception:
    """Returns the error, or one that says the same if it cannot travel."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # pickling other people's classes may raise anything
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


@contextmanager
def _working_in(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    if folder.is_dir():  # otherwise reading what is shared says what is wrong
        os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)

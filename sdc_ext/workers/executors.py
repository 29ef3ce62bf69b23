"""Chooses workers: processes of this machine, a dask cluster, jobs of Slurm, or any executor."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from numbers import Integral
from pathlib import Path
from typing import Any

from loky import ProcessPoolExecutor

from sdc_ext._memory import keep_freed_memory
from sdc_ext._text import first_line
from sdc_ext._values import Processes, check_value
from sdc_ext.errors import InputError
from sdc_ext.workers.pool import SERIAL, Job, Pool, Serial, Workers

# submitit's own limit is five minutes.
_SUBMITIT = {"folder": "submitit", "timeout_min": 24 * 60}

# How often a worker looks whether its program still lives, in seconds.
_WATCH = 1

# loky would replace processes that grow, which they do once, as they keep freed memory.
_ENVIRONMENT = {
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
    "LOKY_MAX_MEMORY_LEAK_SIZE": str(10**15),
}

_FORMS = "dask:ADDRESS, or submitit:NAME=VALUE,... with submitit's parameters"


def choose_workers(workers: Any = 1, *, launched: int = 1) -> Workers:
    """Returns the workers for the ``workers`` argument of a verb.

    Args:
        workers: One of the following:

            - the number of processes of this machine; 1 for this process itself;
            - an executor as in ``concurrent.futures``, e.g. that of a dask client, which stays
              open;
            - ``"dask:ADDRESS"``, with the address of a dask scheduler;
            - ``"submitit"`` with parameters of submitit, e.g.
              ``"submitit:slurm_partition=cpu,timeout_min=90"``; without Slurm it starts processes
              of this machine;
            - workers that were chosen before.
        launched: The number of processes in which the program was started.

    Raises:
        InputError: If it is none of these, a package is not installed, no scheduler answers, or
            the program was started in several processes.
    """
    if isinstance(workers, Integral):
        workers = check_value("workers", workers, Processes)
    if workers == 1 or isinstance(workers, Serial):
        return SERIAL
    if launched > 1:
        raise InputError(
            f"this program was launched in {launched} processes, which share the work already: "
            "leave `workers` out"
        )
    if isinstance(workers, Workers):
        return workers
    if isinstance(workers, int):
        return LocalPool(workers)
    return _opened(workers) if isinstance(workers, str) else _checked(workers)


class LocalPool(Pool):
    """Processes of this machine, which last as long as a call of ``map``.

    Args:
        processes: Their number.
    """

    def __init__(self, processes: int) -> None:
        super().__init__()
        self._processes = processes
        self._size = processes
        self._executor: ProcessPoolExecutor | None = None

    def open(self, cells: int) -> int:
        """See ``Pool``; there are no more processes than cells."""
        self._size = min(self._processes, cells)
        return self._size

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Job:
        """See ``Pool``; all processes are started anew once one of them has broken down."""
        if self._executor is not None:
            try:
                return _submitted(self._executor, function, *arguments)
            except BrokenExecutor:
                self.close()
        self._executor = ProcessPoolExecutor(
            self._size,
            initializer=_begin,
            initargs=(os.getpid(),),
            env=_ENVIRONMENT,
        )
        return _submitted(self._executor, function, *arguments)

    def close(self) -> None:
        """Ends the processes."""
        if self._executor is not None:
            self._executor.shutdown(kill_workers=True)
            self._executor = None


def _begin(parent: int) -> None:
    """Prepares a process that does not outlive the program, even if that is killed."""
    keep_freed_memory()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_WATCH)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class GivenPool(Pool):
    """The workers of an executor, which have to see the current folder under the same path.

    Args:
        executor: The executor, which stays open.
    """

    def __init__(self, executor: Any) -> None:
        super().__init__(folder=Path())
        self._executor = executor

    def open(self, cells: int) -> int:
        """See ``Pool``; the executor has a queue of its own."""
        return cells

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Job:
        """See ``Pool``."""
        try:
            return _submitted(self._executor, function, *arguments)
        except BrokenExecutor as error:
            raise InputError(
                f"the executor has lost a worker ({error}), perhaps for lack of memory, and takes "
                "no more work: pass a new one, with fewer workers"
            ) from error
        except RuntimeError as error:
            raise InputError(
                f"the executor takes no work ({error}): pass one that is open"
            ) from error

    def close(self) -> None:
        """Leaves the executor to its owner."""


class DaskPool(GivenPool):
    """The workers of a dask cluster, to which each call of ``map`` connects anew.

    Args:
        address: The address of the scheduler.

    Raises:
        InputError: If no scheduler answers.
    """

    def __init__(self, address: str) -> None:
        super().__init__(None)
        self._address = address
        self._client = _dask_client(address)
        self.close()  # a long time may pass until there is work, and the cluster may end first

    def open(self, cells: int) -> int:
        """See ``Pool``."""
        self._client = _dask_client(self._address)
        self._executor = self._client.get_executor()
        return super().open(cells)

    def close(self) -> None:
        """Leaves the cluster."""
        self._client.close()


def _submitted(executor: Any, function: Callable[..., Any], *arguments: Any) -> Job:
    job: Job = executor.submit(function, *arguments)
    return job


def _checked(executor: Any) -> GivenPool:
    if not callable(getattr(executor, "submit", None)):
        raise InputError(
            f"`workers` cannot be a {type(executor).__name__}: pass a number of processes, an "
            f"executor as in concurrent.futures, {_FORMS}"
        )
    return GivenPool(executor)


def _opened(spec: str) -> GivenPool:
    kind, _, rest = spec.partition(":")
    if kind == "dask" and rest:
        return DaskPool(rest)
    if kind == "submitit":
        return GivenPool(_open_submitit(rest))
    raise InputError(f"executor {spec!r} is unknown: use {_FORMS}")


def _dask_client(address: str) -> Any:
    try:
        from distributed import Client
    except ImportError:
        raise InputError("dask is not installed: pip install 'sdc-ext[dask]'") from None
    try:
        client: Any = Client
        return client(address, timeout="20s")
    except (OSError, ValueError) as error:
        raise InputError(
            f"no dask scheduler answers at {address!r} ({first_line(error)}): pass the address "
            "that `dask scheduler` prints, as in dask:tcp://127.0.0.1:8786"
        ) from None


def _open_submitit(parameters: str) -> Any:
    try:
        import submitit
    except ImportError:
        raise InputError("submitit is not installed: pip install 'sdc-ext[slurm]'") from None
    given: dict[str, Any] = dict(_SUBMITIT)
    for part in filter(None, parameters.split(",")):
        name, is_given, value = part.partition("=")
        if not is_given:
            raise InputError(
                f"submitit's parameters are written NAME=VALUE, e.g. timeout_min=90, got {part!r}"
            )
        given[name] = int(value) if value.isdecimal() else value
    try:
        executor = submitit.AutoExecutor(given.pop("folder"), cluster=given.pop("cluster", None))
        executor.update_parameters(**given)
    except (NameError, ValueError, TypeError, RuntimeError, AssertionError) as error:
        raise InputError(f"submitit refuses {parameters!r}: {first_line(error)}") from None
    return executor

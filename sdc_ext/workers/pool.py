"""Hands cells to workers, and repeats those whose worker was lost."""

from __future__ import annotations

import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import cloudpickle

from sdc_ext.errors import InputError
from sdc_ext.workers.packing import carry_out, write_shared

S = TypeVar("S")
C = TypeVar("C")
R = TypeVar("R")

# How often a cell may lose its worker.
_MOST_LOST = 3

# How long to wait before asking again which cells are done, in seconds.
_PAUSE = 0.05


class Workers(ABC):
    """Carries out cells that do not depend on each other."""

    @abstractmethod
    def map(
        self,
        function: Callable[[S, C], R],
        shared: S,
        cells: Sequence[C],
        *,
        on_done: Callable[[int, R], object] = lambda index, result: None,
        say: Callable[[str], object] = lambda line: None,
    ) -> list[R]:
        """Returns the result of each cell, in the order of the cells.

        Args:
            function: Called with ``shared`` and a cell.
            shared: What all cells need, e.g. the data.
            cells: The cells.
            on_done: Called with the index and the result of a cell as soon as it is done, in the
                order in which cells are done.
            say: Called with a line about what went wrong and is done again.

        Raises:
            InputError: If a cell loses its worker several times.
            Exception: What the function raises for a cell; the other cells are given up.
        """


class Serial(Workers):
    """Carries out cells one after the other in this process, with all of its threads."""

    def map(
        self,
        function: Callable[[S, C], R],
        shared: S,
        cells: Sequence[C],
        *,
        on_done: Callable[[int, R], object] = lambda index, result: None,
        say: Callable[[str], object] = lambda line: None,
    ) -> list[R]:
        """See [`Workers`][sdc_ext.workers.Workers]."""
        del say
        results = []
        for index, cell in enumerate(cells):
            results.append(function(shared, cell))
            on_done(index, results[-1])
        return results


SERIAL = Serial()
"""Cells one after the other in this process; the default everywhere."""


class Job(Protocol):
    """A cell in the hands of an executor: a future as in ``concurrent.futures``, or the like."""

    def done(self) -> bool:
        """Returns whether the cell has ended."""
        ...

    def result(self) -> Any:
        """Returns the outcome; raises if the worker was lost."""
        ...

    def cancel(self) -> Any:
        """Gives the cell up, if it has not begun."""
        ...


class Pool(Workers):
    """Carries out cells in other processes, each with one thread.

    Args:
        folder: The folder for the file that workers read; by default the system's temporary one.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    @abstractmethod
    def submit(self, function: Callable[..., Any], *arguments: Any) -> Job:
        """Hands a call to a worker; it is done again after a worker was lost."""

    @abstractmethod
    def close(self) -> None:
        """Ends the workers, if they are ours."""

    def map(
        self,
        function: Callable[[S, C], R],
        shared: S,
        cells: Sequence[C],
        *,
        on_done: Callable[[int, R], object] = lambda index, result: None,
        say: Callable[[str], object] = lambda line: None,
    ) -> list[R]:
        """See [`Workers`][sdc_ext.workers.Workers]."""
        with tempfile.TemporaryDirectory(dir=self._folder, prefix=".sdc-ext-") as temporary:
            path = Path(temporary).absolute() / "shared"
            write_shared(path, function, shared)

            def submit(index: int) -> Job:
                packed = cloudpickle.dumps(cells[index])
                return self.submit(carry_out, str(path), str(Path.cwd()), packed)

            results: dict[int, R] = {}
            jobs: dict[int, Job] = {}
            try:
                jobs.update((index, submit(index)) for index in range(len(cells)))
                for index, result in _collected(jobs, submit, say):
                    results[index] = result
                    on_done(index, result)
            finally:
                for job in jobs.values():
                    job.cancel()
                self.close()
        return [results[index] for index in range(len(cells))]


def _collected(
    jobs: dict[int, Job], submit: Callable[[int], Job], say: Callable[[str], object]
) -> Iterator[tuple[int, Any]]:
    """Yields what becomes of the jobs, which leave ``jobs``; those that are lost are repeated."""
    lost = dict.fromkeys(jobs, 0)
    while jobs:
        done = [index for index, job in jobs.items() if job.done()]
        if not done:
            time.sleep(_PAUSE)
        for index in done:
            try:
                outcome = jobs[index].result()
            except Exception as error:  # each executor has its own types of exception
                lost[index] += 1
                _check_losses(lost[index], error)
                say(f"a worker was lost ({_first_line(error)}): what it did is done again")
                jobs[index] = submit(index)
                continue
            del jobs[index]
            yield index, outcome.result()


def _check_losses(number: int, error: Exception) -> None:
    if number >= _MOST_LOST:
        raise InputError(
            f"the same work lost its worker {number} times ({_first_line(error)}): there may be "
            "too little memory for so many workers, so use fewer"
        ) from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:200]}".rstrip(": ")

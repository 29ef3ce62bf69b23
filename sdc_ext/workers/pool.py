"""Hands cells to workers, and repeats those whose worker was lost."""

from __future__ import annotations

import tempfile
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol, TypeVar
from uuid import uuid4

import cloudpickle

from sdc_ext.errors import InputError
from sdc_ext.workers.packing import carry_out, forget_shared, write_shared

S = TypeVar("S")
C = TypeVar("C")
R = TypeVar("R")

# How often a cell may lose its worker.
_MOST_LOST = 3

# Bases of what executors raise for a lost worker: those of concurrent.futures, dask and submitit.
_LOSSES = {"BrokenExecutor", "KilledWorker", "UncompletedJobError"}

# How long to wait before asking again which cells are done, in seconds.
_PAUSE = 0.05


class Workers(ABC):
    """Carries out cells that do not depend on each other."""

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
        results: dict[int, R] = {}
        with closing(self._carry_out(function, shared, cells, say)) as outcomes:
            for index, result in outcomes:
                results[index] = result
                on_done(index, result)
        return [results[index] for index in range(len(cells))]

    @abstractmethod
    def _carry_out(
        self,
        function: Callable[[S, C], R],
        shared: S,
        cells: Sequence[C],
        say: Callable[[str], object],
    ) -> Generator[tuple[int, R], None, None]:
        """Yields the index and the result of each cell as soon as it is done; see ``map``."""


class Serial(Workers):
    """Carries out cells one after the other in this process, with all of its threads."""

    def _carry_out(
        self,
        function: Callable[[S, C], R],
        shared: S,
        cells: Sequence[C],
        say: Callable[[str], object],
    ) -> Generator[tuple[int, R], None, None]:
        del say
        for index, cell in enumerate(cells):
            yield index, function(shared, cell)


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
    def open(self, cells: int) -> int:
        """Prepares for a number of cells, and returns how many of them it takes at once."""

    @abstractmethod
    def submit(self, function: Callable[..., Any], *arguments: Any) -> Job:
        """Hands a call to a worker, also after workers were lost."""

    @abstractmethod
    def close(self) -> None:
        """Ends the workers, if they are ours."""

    def _carry_out(
        self,
        function: Callable[[S, C], R],
        shared: S,
        cells: Sequence[C],
        say: Callable[[str], object],
    ) -> Generator[tuple[int, R], None, None]:
        if not cells:
            return
        with tempfile.TemporaryDirectory(dir=self._folder, prefix=".sdc-ext-") as temporary:
            path = Path(temporary).absolute() / "shared"
            write_shared(path, function, shared)

            def submit(index: int) -> Job:
                # Its name tells a call from an equal one, for which dask would reuse the result.
                name, cell = uuid4().hex, cloudpickle.dumps(cells[index])
                return self.submit(carry_out, name, str(path), str(Path.cwd()), cell)

            jobs: dict[int, Job] = {}
            try:
                at_once = self.open(len(cells))
                yield from _collected(range(len(cells)), at_once, jobs, submit, say)
            finally:
                for job in jobs.values():
                    job.cancel()
                self.close()
                forget_shared()


def _collected(
    cells: Iterable[int],
    at_once: int,
    jobs: dict[int, Job],
    submit: Callable[[int], Job],
    say: Callable[[str], object],
) -> Iterator[tuple[int, Any]]:
    """Yields what becomes of cells; those whose worker is lost are submitted again.

    Args:
        cells: The indices of the cells.
        at_once: The number of cells to submit at once, so that few are lost together.
        jobs: Filled with the jobs that are under way.
        submit: Hands a cell to a worker.
        say: Called with a line about a loss.
    """
    waiting = deque(cells)
    lost = dict.fromkeys(waiting, 0)
    while waiting or jobs:
        while waiting and len(jobs) < at_once:
            index = waiting.popleft()
            jobs[index] = submit(index)
        done = [index for index, job in jobs.items() if job.done()]
        if not done:
            time.sleep(_PAUSE)
        for index in done:
            job = jobs.pop(index)
            try:
                outcome = job.result()
            except Exception as error:  # each executor has its own types of exception
                if not _is_loss(error):
                    raise
                lost[index] += 1
                _check_losses(lost[index], error)
                say(f"a worker was lost ({_first_sentence(error)}): what it did is done again")
                waiting.appendleft(index)
            else:
                yield index, outcome.result()


def _is_loss(error: Exception) -> bool:
    """Returns whether a worker was lost: killed, out of memory, preempted."""
    return any(kind.__name__ in _LOSSES for kind in type(error).__mro__)


def _check_losses(number: int, error: Exception) -> None:
    if number >= _MOST_LOST:
        raise InputError(
            f"the same work lost its worker {number} times ({_first_sentence(error)}): there may "
            "be too little memory for so many workers, so use fewer"
        ) from error


def _first_sentence(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0].partition('. ')[0]}".rstrip(": ")

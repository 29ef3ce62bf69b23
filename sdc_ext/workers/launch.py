"""Divides cells among the processes in which a program was launched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from accelerate import Accelerator
from accelerate.utils import gather_object

from sdc_ext.workers.pool import Workers

S = TypeVar("S")
C = TypeVar("C")
R = TypeVar("R")


def map_in_launch(
    workers: Workers,
    accelerator: Accelerator,
    function: Callable[[S, C], R],
    shared: S,
    cells: Sequence[C],
    *,
    on_done: Callable[[int, R], object] = lambda index, result: None,
    say: Callable[[str], object] = lambda line: None,
) -> list[R]:
    """Returns the result of each cell in every process, each of which computes its share.

    Args:
        workers: The workers of this process.
        accelerator: The processes of the launch, all of which have to call this.
        function: Called with ``shared`` and a cell.
        shared: What all cells need.
        cells: The cells, the same in every process.
        on_done: Called with the index and the result of each cell of this process.
        say: See [`Workers.map`][sdc_ext.workers.Workers.map].
    """
    own = range(len(cells))[accelerator.process_index :: accelerator.num_processes]
    found = workers.map(
        function,
        shared,
        [cells[index] for index in own],
        on_done=lambda position, result: on_done(own[position], result),
        say=say,
    )
    everything = dict(gather_object(list(zip(own, found, strict=True))))
    return [everything[index] for index in range(len(cells))]

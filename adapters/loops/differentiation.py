"""How trajectory matching differentiates its inner loop, and how much memory that takes."""

from __future__ import annotations

from typing import Literal

import torch

from sdc_ext._memory import advising_on_memory
from sdc_ext.adapters.loops.states import TrajectoryState
from sdc_ext.matching.adjoints import (
    Adjoint,
    Direct,
    InnerLoop,
    Recompute,
    Share,
    StepByStep,
    Tesla,
)
from sdc_ext.matching.budget import Forecast
from sdc_ext.matching.minibatches import Minibatch

AdjointName = Literal["recompute", "direct", "tesla"]

# The unit of `memory_budget` in bytes.
_GB = 1e9


def make_adjoint(name: AdjointName, chunk_size: int, share: Share, budget: float) -> Adjoint:
    """Returns the adjoint that settings describe.

    Args:
        name: The name of the adjoint.
        chunk_size: The number of images at once; 0 for what suits the device.
        share: The part of each minibatch that this process computes.
        budget: The memory budget in GB.
    """
    if name == "direct":
        return Direct()
    kind = Recompute if name == "recompute" else Tesla
    return kind(chunk_size or None, share, _GB * budget)


def budget_note(adjoint: Adjoint, state: TrajectoryState, batch: int, steps: int) -> str | None:
    """Returns for how many inner steps the memory budget suffices, if there is one.

    With a pool, it speaks of the network whose steps take the most memory.

    Args:
        adjoint: The adjoint, perhaps with a budget.
        state: The state of the run.
        batch: The number of decoded images per inner step; 0 for all.
        steps: The number of inner steps.

    Raises:
        InputError: If not even the graph of one chunk fits into memory.
    """
    if not (isinstance(adjoint, StepByStep) and adjoint.memory_budget):
        return None
    images, labels = state.decoder.decode(state.images), state.decoder.repeat(state.targets)
    count = len(images)
    batches = [Minibatch(torch.arange(min(batch or count, count)), lambda x: x)] * steps
    with advising_on_memory(memory_advice("recompute", 0.0, adjoint.chunk_size)):
        forecasts = [
            adjoint.forecast(
                InnerLoop(
                    student, student.initial_parameters(), images, labels, state.syn_lr, batches
                )
            )
            for student in state.students
        ]
    forecast = max(forecasts, key=_all_graphs)
    first = forecast.step_bytes[0]
    every = _all_graphs(forecast) / _GB
    several = " in each process" if adjoint.share.count > 1 else ""
    rest = forecast.kept - forecast.whole
    results = f" and {rest} as costly results of {first.results / 1e6:.3g} MB" if rest else ""
    return (
        f"memory budget: {adjoint.memory_budget / _GB:g} GB{several} for {forecast.kept} of "
        f"{steps} inner steps, {forecast.whole} as graphs of {first.whole / 1e6:.3g} MB{results}; "
        f"all graphs need {every:.3g} GB"
    )


def _all_graphs(forecast: Forecast) -> int:
    return sum(size.whole for size in forecast.step_bytes)


def memory_advice(adjoint: AdjointName, budget: float, chunk_size: int | None) -> str:
    """Returns what to do if an outer iteration does not fit into memory.

    Args:
        adjoint: The name of the adjoint.
        budget: The memory budget in GB.
        chunk_size: The number of images at once; 0 or None for what suits the device.
    """
    if adjoint == "direct":
        return "use `adjoint` recompute, with a `memory_budget` if there is memory to spare"
    if budget > 0:
        return f"lower `memory_budget` (now {budget:g} GB)"
    if chunk_size:
        return f"lower `chunk_size` (now {chunk_size})"
    return "set `chunk_size` to a small number of images, e.g. 1"

"""Carries out the parts of ``gpu.py``, each within a limit of time, cases in another process."""

from __future__ import annotations

import gc
import importlib.util
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

ROOT = Path(__file__).parent.parent
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")

# Those that compute on the device at hand, or look for one; the others stay on the CPU.
TESTS = (
    "tests/test_devices.py",
    "tests/adapters/loops",
    "tests/cli/test_distill.py",
    "tests/cli/test_trajectory.py",
    "tests/engine/test_callbacks.py",
    "tests/evaluation/test_evaluator.py",
    "tests/experts",
    "tests/injection/test_gpu.py",
    "tests/training",
    "tests/verbs/test_verbs.py",
)
PROCESSES = 4

# Computes what is timed: an image gradient, or accuracies.
Step: TypeAlias = Callable[[], Tensor]


@dataclass(frozen=True)
class Case:
    """One row of a table.

    Attributes:
        name: Its name.
        make: Returns the step, called with ``arguments``.
        arguments: What the step needs.
        tf32: Whether products of float32 may be rounded to TF32.
    """

    name: str
    make: Callable[..., Step]
    arguments: tuple[Any, ...]
    tf32: bool = False


@dataclass(frozen=True)
class Part:
    """One table.

    Attributes:
        title: Its title.
        cases: Its rows, of which the first is what the others are compared with.
        limit: The seconds after which it is given up.
        rounds: The number of timed steps per case.
        warm_up: The number of steps before them, which compile and let cuDNN choose.
        compared: What is compared beside times and memory.
        compare: Compares the values of a case and of the first case.
    """

    title: str
    cases: Sequence[Case]
    limit: float
    rounds: int
    warm_up: int
    compared: str
    compare: Callable[[np.ndarray, np.ndarray], str]


@dataclass(frozen=True)
class Measured:
    """Seconds of every round, the peak of allocated bytes during them, and the step's value."""

    seconds: Sequence[float]
    peak: int
    value: np.ndarray


def run_part(part: Part) -> list[Measured | str]:
    """Returns what became of each case: its measurements, or why there are none."""
    deadline = time.monotonic() + part.limit
    results: list[Measured | str] = []
    context = multiprocessing.get_context("spawn")
    while len(results) < len(part.cases):
        left = part.cases[len(results) :]
        if time.monotonic() > deadline:
            return [*results, *[f"given up: the part's limit of {part.limit:g} s"] * len(left)]
        ours, theirs = context.Pipe()
        process = context.Process(
            target=_work, args=(theirs, left, part.warm_up, part.rounds), daemon=True
        )
        process.start()
        theirs.close()
        results += _collected(ours, len(left), deadline)
        process.kill()
        process.join()
    return results


def _collected(connection: Connection, number: int, deadline: float) -> list[Measured | str]:
    """Returns what a process sends until it has done all cases, ends, or the time is over."""
    results: list[Measured | str] = []
    while len(results) < number and connection.poll(max(deadline - time.monotonic(), 0)):
        try:
            results.append(connection.recv())
        except EOFError:
            return [*results, "failed: its process ended"]
    return results


def _work(connection: Connection, cases: Sequence[Case], warm_up: int, rounds: int) -> None:
    for case in cases:
        result: Measured | str
        try:
            result = _measure(case, warm_up, rounds)
        except torch.OutOfMemoryError:
            result = "does not fit"
        except Exception as error:  # the other cases are still worth their time
            result = f"failed: {' '.join(f'{type(error).__name__}: {error}'.split())[:300]}"
        connection.send(result)
        gc.collect()
        if DEVICE.type == "cuda":
            torch.cuda.empty_cache()


def _measure(case: Case, warm_up: int, rounds: int) -> Measured:
    torch.set_default_device(DEVICE)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = case.tf32
    step = case.make(*case.arguments)
    for _ in range(warm_up):
        step()
    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(rounds):
        _wait()
        started = time.perf_counter()
        value = step()
        _wait()
        seconds.append(time.perf_counter() - started)
    peak = torch.cuda.max_memory_allocated() if DEVICE.type == "cuda" else 0
    return Measured(seconds, peak, value.cpu().numpy())


def _wait() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def run_tests(files: Sequence[str], limit: float) -> list[str]:
    """Runs tests and returns those that failed, and pytest's last line."""
    several = ("-n", str(PROCESSES)) if importlib.util.find_spec("xdist") else ()
    command = [sys.executable, "-m", "pytest", "-q", "-m", "not slow", "-rf", *several, *files]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        printed, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return [f"given up: the part's limit of {limit:g} s"]
    lines = printed.strip().splitlines() or ["failed: pytest is not installed"]
    return [*(line for line in lines if line.startswith(("FAILED", "ERROR"))), lines[-1]]

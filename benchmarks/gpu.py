"""Times steps and evaluations on a GPU, beside the originals' own, in one run.

    python benchmarks/gpu.py [--dc DIR] [--mtt DIR] [--rounds 20]

The steps are those of ``gm_step.py`` (MNIST's shape, ipc 1 and 10) and ``tm_step.py`` (3x32x32
images, N = 30), whose inputs it makes on the GPU; DIR is a checkout of VICO-UoE/DatasetCondensation
and of mtt-distillation. Every case has a process of its own. Memory is the peak of what PyTorch
allocated during the step. Without a GPU it runs on the CPU and says so, without the memory.
"""

from __future__ import annotations

import multiprocessing
import statistics
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))
import gm_step  # type: ignore[import-not-found]
import tm_step  # type: ignore[import-not-found]

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
WARM_UP = 3

# Returns the image gradient of one step.
Step = Callable[[], Tensor]


def gradient_step(case: Any, ipc: int) -> Step:
    step: Step = gm_step.make_step(case, ipc)
    return step


def trajectory_step(case: Any, steps: int, batch: int) -> Step:
    make = {
        "plain": lambda: tm_step.make_plain(batch),
        "original": lambda: tm_step.make_original(case, batch),
        "ours": lambda: tm_step.make_ours(case, batch),
    }[case.kind]
    step = make()
    return lambda: step(steps)[0]


def work(
    connection: Connection, make: Callable[..., Step], arguments: tuple[Any, ...], tf32: bool
) -> None:
    """Sends each round's seconds, the peak of allocated bytes and the image gradient."""
    torch.set_default_device(DEVICE)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    try:
        step = make(*arguments)
        for _ in range(WARM_UP):  # compiles, and lets cuDNN choose
            gradient = step()
        seconds = []
        if DEVICE.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        while connection.recv():
            _wait()
            started = time.perf_counter()
            gradient = step()
            _wait()
            seconds.append(time.perf_counter() - started)
            connection.send(None)
        peak = torch.cuda.max_memory_allocated() if DEVICE.type == "cuda" else 0
        connection.send((seconds, peak, gradient.cpu().numpy()))
    except torch.OutOfMemoryError:
        connection.send("does not fit")


def _wait() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def measure(
    make: Callable[..., Step], arguments: tuple[Any, ...], rounds: int, tf32: bool
) -> tuple[list[float], float, Any] | None:
    """Seconds of every round, peak bytes and the image gradient; None if it does not fit."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=work, args=(theirs, make, arguments, tf32)
    )
    process.start()
    for more in (*[True] * rounds, False):
        ours.send(more)
        answer = ours.recv()
        if answer is not None:
            break
    process.join()
    return None if answer == "does not fit" else answer


def print_table(
    title: str, cases: list[tuple[Any, bool]], make: Callable[..., Step], *sizes: int, rounds: int
) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{title}, {rounds} rounds", title_justify="left")
    for column in ("case", "median ms", "fastest ms", f"over {cases[0][0].name}", "MB", "gradient"):
        table.add_column(column)
    base = None
    for case, tf32 in cases:
        measured = measure(make, (case, *sizes), rounds, tf32)
        name = f"{case.name}, tf32" if tf32 else case.name
        if measured is None:
            table.add_row(name, "does not fit")
            continue
        seconds, peak, gradient = measured
        median = statistics.median(seconds)
        base = base or (median, gradient)
        off = float(((gradient - base[1]) ** 2).sum() ** 0.5 / (base[1] ** 2).sum() ** 0.5)
        times = (f"{1000 * median:.1f}", f"{1000 * min(seconds):.1f}", f"{base[0] / median:.2f}x")
        table.add_row(name, *times, f"{peak / 1e6:.0f}" if peak else "-", f"{off:.0e} off")
    Console(highlight=False).print(table)


def gradient_cases(upstream: Path | None) -> list[tuple[Any, bool]]:
    case = gm_step.Case
    originals = [(case("original", "original", upstream=upstream), False)] if upstream else []
    return [
        *originals,
        (case("plain", "plain"), False),
        (case("ours", "ours", lam=gm_step.LAM), False),
        (case("ours", "ours", lam=gm_step.LAM), True),
        (case("ours, bf16", "ours", lam=gm_step.LAM, bf16=True), False),
        (case("ours, bf16, compiled", "ours", lam=gm_step.LAM, bf16=True, compile=True), False),
    ]


def trajectory_cases(upstream: Path | None) -> list[tuple[Any, bool]]:
    case = tm_step.Case
    originals = [(case("original", "original", upstream=upstream), False)] if upstream else []
    return [
        *originals,
        (case("plain graph", "plain"), False),
        (case("ours", "ours", lam=tm_step.LAM), False),
        (case("ours", "ours", lam=tm_step.LAM), True),
        (case("ours, direct", "ours", lam=tm_step.LAM, adjoint="direct"), False),
        (case("ours, tesla", "ours", lam=tm_step.LAM, adjoint="tesla"), False),
        (case("ours, compiled", "ours", lam=tm_step.LAM, compile=True), False),
    ]


def main() -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--dc", type=Path, help="a checkout of DatasetCondensation")
    parser.add_argument("--mtt", type=Path, help="a checkout of mtt-distillation")
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    name = torch.cuda.get_device_name() if DEVICE.type == "cuda" else "no GPU, on the CPU"
    print(f"{name}, torch {torch.__version__}, python {sys.version.split()[0]}", flush=True)
    for ipc in (1, 10):
        cases = gradient_cases(options.dc and options.dc.resolve())
        title = f"gradient matching, ipc {ipc}"
        print_table(title, cases, gradient_step, ipc, rounds=options.rounds)
    for steps, batch in ((30, 10), (30, 100)):
        cases = trajectory_cases(options.mtt and options.mtt.resolve())
        title = f"trajectory matching, N = {steps}, batch {batch}"
        print_table(title, cases, trajectory_step, steps, batch, rounds=max(options.rounds // 4, 1))


if __name__ == "__main__":
    main()

"""Times one trajectory-matching step and its memory: the plain graph, the original's, and ours.

    python benchmarks/tm_step.py [--upstream DIR] [--rounds 1] [--steps 10 30 80] [--batch 10 100]
                                 [--budget 1 2 4]

The network is a ConvNet of 3 blocks of 128 on 3x32x32 images. DIR is a checkout of
mtt-distillation. Every measurement has a process of its own; a case that does not fit into the
machine's memory is left out. Run it on an idle machine.
"""

from __future__ import annotations

import multiprocessing
import platform
import resource
import statistics
import sys
import time
import warnings
from argparse import ArgumentParser
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

CLASSES = 10
LAM = 0.002
# What the graph of one step on one image takes here, for leaving out what cannot fit.
GRAPH_BYTES = 3.9e6

Gradients = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Case:
    """One way to compute the step.

    Attributes:
        name: The name of its row in the table.
        kind: One of ``original``, ``plain`` (graph of all steps, default allocator) or ``ours``.
        lam: The weight of the correction.
        adjoint: The name of our adjoint.
        compile: Whether the derivatives are compiled.
        budget: The memory in GB for the graphs of inner steps.
        upstream: The checkout of the original.
    """

    name: str
    kind: str
    lam: float = 0.0
    adjoint: str = "recompute"
    compile: bool = False
    budget: float = 0.0
    upstream: Path | None = None

    def graph_bytes(self, steps: int, batch: int) -> float:
        """What the graphs of all steps take, apart from the computation of one chunk."""
        whole = GRAPH_BYTES * batch * steps
        keeps_all = self.kind != "ours" or self.adjoint == "direct"
        return whole if keeps_all else min(whole, 1e9 * self.budget)


@dataclass(frozen=True)
class Inputs:
    """Start and target (P,), images, labels and step size, equal in all cases."""

    start: Tensor
    target: Tensor
    images: Tensor
    labels: Tensor
    lr: Tensor


def make_inputs(batch: int) -> Inputs:
    from torch.nn.utils import parameters_to_vector

    from sdc_ext.networks.create import create_network

    torch.manual_seed(0)
    network = create_network("convnet", 3, CLASSES, (32, 32))
    start = parameters_to_vector(network.parameters()).detach()
    target = start + 0.01 * torch.randn_like(start)
    images = torch.randn(batch, 3, 32, 32).requires_grad_()
    lr = torch.tensor(0.01, requires_grad=True)
    return Inputs(start, target, images, torch.arange(batch) % CLASSES, lr)


def make_ours(case: Case, batch: int) -> Callable[[int], Gradients]:
    """The library's step, as its loop runs it."""
    from sdc_ext import with_sdc
    from sdc_ext._memory import keep_freed_memory
    from sdc_ext.adapters.loops.trajectory import Inner, match_trajectory
    from sdc_ext.matching.adjoints import Direct, Recompute, Tesla
    from sdc_ext.matching.distances import parameter_distance
    from sdc_ext.matching.minibatches import Minibatch
    from sdc_ext.networks.create import create_network
    from sdc_ext.networks.functional import FunctionalNetwork

    keep_freed_memory()
    given = make_inputs(batch)
    network = create_network("convnet", 3, CLASSES, (32, 32)).train()
    student = FunctionalNetwork(network, compile=case.compile)
    inner = Inner(student, given.images, given.labels, given.lr)
    loss_fn = with_sdc(parameter_distance, case.lam)
    recompute = Recompute(memory_budget=1e9 * case.budget)
    adjoint = {"recompute": recompute, "direct": Direct(), "tesla": Tesla()}[case.adjoint]

    def step(steps: int) -> Gradients:
        batches = [Minibatch(torch.arange(batch), lambda x: x)] * steps
        corrected = match_trajectory(
            inner, given.start, given.target, batches, loss_fn, adjoint=adjoint
        )
        by_images, by_lr = torch.autograd.grad(corrected.loss, [given.images, given.lr])
        return by_images, by_lr

    return step


def make_unrolled(
    given: Inputs, forward: Callable[[Tensor, Tensor], Tensor]
) -> Callable[[int], Gradients]:
    """The step as MTT's script has it: the graph of all inner steps, then one backward."""

    def step(steps: int) -> Gradients:
        params = given.start.clone().requires_grad_()
        for _ in range(steps):
            loss = F.cross_entropy(forward(params, given.images), given.labels)
            (gradient,) = torch.autograd.grad(loss, params, create_graph=True)
            params = params - given.lr * gradient
        distance = F.mse_loss(params, given.target, reduction="sum")
        distance = distance / F.mse_loss(given.start, given.target, reduction="sum")
        by_images, by_lr = torch.autograd.grad(distance, [given.images, given.lr])
        return by_images, by_lr

    return step


def make_plain(batch: int) -> Callable[[int], Gradients]:
    from sdc_ext.networks.create import create_network
    from sdc_ext.networks.functional import FunctionalNetwork

    student = FunctionalNetwork(create_network("convnet", 3, CLASSES, (32, 32)).train())
    return make_unrolled(make_inputs(batch), student)


def make_original(case: Case, batch: int) -> Callable[[int], Gradients]:
    """The same step with the original's network and reparametrisation."""
    sys.path.insert(0, str(case.upstream))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import networks as original_networks  # type: ignore[import-not-found]
        from reparam_module import ReparamModule  # type: ignore[import-not-found]

    network = original_networks.ConvNet(
        3, CLASSES, 128, 3, "relu", "instancenorm", "avgpooling", (32, 32)
    )
    student = ReparamModule(network).train()
    return make_unrolled(make_inputs(batch), lambda params, x: student(x, flat_param=params))


def peak_bytes() -> float:
    return 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def work(connection: Connection, case: Case, steps: int, batch: int) -> None:
    """Sends seconds, peak and baseline bytes, and the image gradient of one step."""
    if case.kind == "ours":
        step = make_ours(case, batch)
    else:
        step = make_plain(batch) if case.kind == "plain" else make_original(case, batch)
    baseline = peak_bytes()
    step(1)  # compiles, and starts threads
    started = time.perf_counter()
    by_images, _ = step(steps)
    seconds = time.perf_counter() - started
    connection.send((seconds, peak_bytes(), baseline, by_images.numpy()))


def measure(case: Case, steps: int, batch: int) -> tuple[float, float, float, np.ndarray]:
    """Seconds, peak bytes, baseline bytes and the image gradient, from a fresh process."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=work, args=(theirs, case, steps, batch))
    process.start()
    measured: tuple[float, float, float, np.ndarray] = ours.recv()
    process.join()
    return measured


def correction_seconds(adjoint: str, pairs: int) -> tuple[float, float]:
    """Median CPU seconds that the correction adds to a step of N = 5, and a step's own.

    It works on parameters only, so it is timed with a batch of 1, where the difference does not
    drown in noise; the step's own time is for a batch of 10.
    """

    def seconds(step: Callable[[int], Gradients]) -> float:
        started = time.process_time()
        step(5)
        return time.process_time() - started

    plain, corrected, whole = (
        make_ours(Case("", "ours", lam=lam, adjoint=adjoint), batch)
        for lam, batch in ((0.0, 1), (LAM, 1), (0.0, 10))
    )
    added = []
    for _ in range(pairs):  # in both orders, so that what comes second gains nothing
        first, second = seconds(corrected), seconds(plain)
        third, fourth = seconds(plain), seconds(corrected)
        added.append((first + fourth - second - third) / 2)
    return statistics.median(added), statistics.median(seconds(whole) for _ in range(5))


def main() -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--upstream", type=Path, help="a checkout of mtt-distillation")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 30, 80])
    parser.add_argument("--batch", type=int, nargs="+", default=[10, 100])
    parser.add_argument("--budget", type=float, nargs="*", default=[1, 2, 4], help="in GB")
    options = parser.parse_args()

    from rich.console import Console
    from rich.table import Table

    cases = [Case("plain graph", "plain")]
    if options.upstream is not None:
        cases.append(Case("original", "original", upstream=options.upstream.resolve()))
    cases += [
        Case("ours", "ours"),
        *(Case(f"ours, {budget:g} GB", "ours", budget=budget) for budget in options.budget),
        Case("ours, direct", "ours", adjoint="direct"),
        Case("ours, compiled", "ours", compile=True),
        Case("ours, tesla", "ours", adjoint="tesla"),
    ]
    console = Console(highlight=False)
    console.print(
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, "
        f"python {platform.python_version()}, torch {torch.__version__}"
    )
    free = 0.85 * 1024 * int(Path("/proc/meminfo").read_text().split("MemAvailable:")[1].split()[0])
    for batch in options.batch:
        for steps in options.steps:
            table = Table(title=f"N = {steps}, batch {batch}", title_justify="left")
            for column in ("case", "median s", "speed", "peak MB", "above baseline MB", "gradient"):
                table.add_column(column)
            base: tuple[float, float, np.ndarray] | None = None
            for case in cases:
                if case.graph_bytes(steps, batch) > free:
                    table.add_row(case.name, "does not fit")
                    continue
                rounds = [measure(case, steps, batch) for _ in range(options.rounds)]
                median = statistics.median(r[0] for r in rounds)
                _, peak, baseline, gradient = rounds[0]
                above = peak - baseline
                base = base or (median, above, gradient)
                off = float(np.linalg.norm(gradient - base[2]) / np.linalg.norm(base[2]))
                table.add_row(
                    case.name,
                    f"{median:.2f}",
                    f"{base[0] / median:.2f}x",
                    f"{peak / 1e6:.0f}",
                    f"{above / 1e6:.0f} (1/{base[1] / above:.0f})",
                    f"{off:.0e} off",
                )
            console.print(table)
    for adjoint in ("recompute", "tesla", "direct"):
        added, step = correction_seconds(adjoint, 40 * options.rounds)
        share = 100 * added / step
        console.print(f"SDC adds {1000 * added:.1f} ms to a step, {share:.2f} % ({adjoint})")


if __name__ == "__main__":
    main()

"""Times one gradient-matching step in one run: the plain step, ours, and the original's.

    python benchmarks/gm_step.py [--upstream DIR] [--rounds 5]

The setting is the original's: MNIST shape, ConvNet of 3 blocks of 128, 10 classes x 256 real
images, ipc 1 and 10. DIR is a checkout of VICO-UoE/DatasetCondensation. Every case runs in a
process of its own, and the cases take turns, so that a disturbance hits all of them. Run it on an
idle machine.
"""

from __future__ import annotations

import multiprocessing
import platform
import statistics
import sys
import time
import warnings
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CLASSES = 10
BATCH_REAL = 256
LAM = 0.001

Step = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """One way to compute the step.

    Attributes:
        name: The name of its row in the table.
        kind: One of ``original``, ``ours`` and ``plain``, which takes whole batches in one graph
            of all classes, with the default allocator.
        lam: The weight of the correction; None is the bare matching loss.
        bf16: Whether real gradients are computed in bfloat16.
        compile: Whether they are compiled.
        upstream: The checkout of the original.
    """

    name: str
    kind: str
    lam: float | None = None
    bf16: bool = False
    compile: bool = False
    upstream: Path | None = None


def make_inputs(ipc: int) -> tuple[nn.Module, Tensor, Tensor]:
    """The network, real images (10, 256, 1, 28, 28) and synthetic images, equal in all cases."""
    from sdc_ext.networks.create import create_network

    torch.manual_seed(0)
    network = create_network("convnet", 1, CLASSES, (28, 28)).train()
    real = torch.randn(CLASSES, BATCH_REAL, 1, 28, 28)
    return network, real, torch.randn(CLASSES * ipc, 1, 28, 28)


def make_ours(case: Case, ipc: int) -> Step:
    """The library's step, as its loop runs it."""
    from sdc_ext import with_sdc
    from sdc_ext._memory import keep_freed_memory
    from sdc_ext.adapters.loops.gradient import match_by_class
    from sdc_ext.adapters.loops.steps import ClassBatch
    from sdc_ext.matching.distances import layerwise_cosine
    from sdc_ext.training.gradients import BatchLoss

    keep_freed_memory()
    network, real, images = make_inputs(ipc)
    batch_loss = BatchLoss(bf16=case.bf16, compile=case.compile)
    loss_fn = with_sdc(layerwise_cosine, case.lam or 0.0)
    batches = [
        ClassBatch(c, lambda c=c: real[c], slice(c * ipc, (c + 1) * ipc), lambda x: x)
        for c in range(CLASSES)
    ]

    def step() -> Tensor:
        result = match_by_class(network, images, batches, loss_fn, batch_loss=batch_loss)
        return result.settled(loss_fn).image_gradient

    return step


def make_plain(
    network: nn.Module, real: Tensor, images: Tensor, distance: Callable[..., Tensor]
) -> Step:
    """The step as one writes it down: whole batches, all classes in one graph, one backward."""
    parameters = list(network.parameters())
    images.requires_grad_()

    def step() -> Tensor | None:
        loss = torch.zeros(())
        for label, part in enumerate(images.chunk(CLASSES)):
            target = torch.full((BATCH_REAL,), label)
            gw_real = torch.autograd.grad(F.cross_entropy(network(real[label]), target), parameters)
            gw_real = tuple(g.detach().clone() for g in gw_real)
            target = torch.full((len(part),), label)
            gw_syn = torch.autograd.grad(
                F.cross_entropy(network(part), target), parameters, create_graph=True
            )
            loss = loss + distance(gw_syn, gw_real)
        images.grad = None
        loss.backward()
        return images.grad

    return step


def make_original(case: Case, ipc: int) -> Step:
    """The plain step, as in the original's main loop, with its network and its distance."""
    sys.path.insert(0, str(case.upstream))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import networks as original_networks  # type: ignore[import-not-found]
        import utils as original_utils  # type: ignore[import-not-found]

    network, real, images = make_inputs(ipc)
    theirs = original_networks.ConvNet(
        1, CLASSES, 128, 3, "relu", "instancenorm", "avgpooling", (28, 28)
    ).train()
    with torch.no_grad():
        for target, source in zip(theirs.parameters(), network.parameters(), strict=True):
            target.copy_(source)
    options = Namespace(dis_metric="ours", device=images.device)
    return make_plain(
        theirs, real, images, lambda syn, real: original_utils.match_loss(syn, real, options)
    )


def make_step(case: Case, ipc: int) -> Step:
    if case.kind == "ours":
        return make_ours(case, ipc)
    if case.kind == "original":
        return make_original(case, ipc)
    from sdc_ext.matching.distances import layerwise_cosine

    return make_plain(*make_inputs(ipc), layerwise_cosine)


def work(connection: Connection, case: Case, ipc: int) -> None:
    """Runs a step at each request, and answers with its seconds and image gradient."""
    step = make_step(case, ipc)
    while connection.recv():
        started = time.perf_counter()
        gradient = step()
        connection.send((time.perf_counter() - started, gradient))


def measure(cases: list[Case], ipc: int, rounds: int) -> dict[str, tuple[list[float], Tensor]]:
    """Seconds of every round and the image gradient of each case; one warm-up round."""
    context = multiprocessing.get_context("spawn")
    workers = {}
    for case in cases:
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(theirs, case, ipc), daemon=True)
        process.start()
        workers[case.name] = ours
    seconds: dict[str, list[float]] = {case.name: [] for case in cases}
    gradients: dict[str, Tensor] = {}
    for round_number in range(rounds + 1):
        for name, connection in workers.items():
            connection.send(True)
            taken, gradients[name] = connection.recv()
            if round_number > 0:
                seconds[name].append(taken)
    for connection in workers.values():
        connection.send(False)
    return {name: (seconds[name], gradients[name]) for name in seconds}


def correction_seconds(ipc: int, rounds: int) -> float:
    """What the correction adds to a step: median over rounds of with minus without it.

    Only the synthetic side is timed, since on the whole step the difference drowns in noise.
    """
    from sdc_ext import with_sdc
    from sdc_ext.matching.distances import layerwise_cosine
    from sdc_ext.training.gradients import differentiable_gradient, mean_gradient

    network, real, images = make_inputs(ipc)
    labels = torch.zeros(BATCH_REAL, dtype=torch.int64)
    gw_real = mean_gradient(network, real[0], labels)
    leaf = images[:ipc].requires_grad_()

    def seconds(loss_fn: Callable[..., Tensor]) -> float:
        started = time.perf_counter()
        gw_syn = differentiable_gradient(network, leaf, labels[:ipc])
        torch.autograd.grad(loss_fn(gw_syn, gw_real), leaf)
        return time.perf_counter() - started

    corrected = with_sdc(layerwise_cosine, LAM)
    pairs = [(seconds(corrected), seconds(layerwise_cosine)) for _ in range(20 * rounds)]
    return CLASSES * statistics.median(with_it - without for with_it, without in pairs)


def main() -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--upstream", type=Path, help="a checkout of DatasetCondensation")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()

    from rich.console import Console
    from rich.table import Table

    cases = [Case("plain", "plain")]
    if options.upstream is not None:
        cases.insert(0, Case("original", "original", upstream=options.upstream.resolve()))
    cases += [
        Case("ours", "ours", lam=LAM),
        Case("ours, compiled", "ours", lam=LAM, compile=True),
        Case("ours, bf16", "ours", lam=LAM, bf16=True),
        Case("ours, bf16, compiled", "ours", lam=LAM, bf16=True, compile=True),
    ]
    console = Console(highlight=False)
    console.print(
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, "
        f"python {platform.python_version()}, torch {torch.__version__}"
    )
    for ipc in (1, 10):
        measured = measure(cases, ipc, options.rounds)
        reference_seconds, reference = next(iter(measured.values()))
        base = statistics.median(reference_seconds)
        table = Table(title=f"one step, ipc {ipc}, {options.rounds} rounds", title_justify="left")
        for column in ("case", "median s", "fastest s", f"speed over {cases[0].name}", "gradient"):
            table.add_column(column)
        for name, (seconds, gradient) in measured.items():
            error = float((gradient - reference).norm() / reference.norm())
            median = statistics.median(seconds)
            row = (name, f"{median:.2f}", f"{min(seconds):.2f}", f"{base / median:.2f}x")
            table.add_row(*row, f"{error:.0e} off")
        console.print(table)
        added = correction_seconds(ipc, options.rounds)
        step = statistics.median(measured["ours"][0])
        console.print(f"SDC adds {1000 * added:.1f} ms to our step, {100 * added / step:.2f} %")


if __name__ == "__main__":
    main()

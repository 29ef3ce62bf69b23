"""Times training steps in two ways: one process with all threads, and one thread per process.

    python benchmarks/side_by_side.py [--rounds 5]

A step is one of an evaluation: ten images, DSA's augmentation, SGD. The two ways take turns on an
otherwise idle machine. The speed of processes side by side is that of all of them together; their
start, which takes some seconds, is not counted.
"""

from __future__ import annotations

import multiprocessing
import os
import platform
import statistics
import time
from argparse import ArgumentParser
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier

import torch

# Network, channels, side of the images, and the steps of a round.
CASES = (
    ("convnet:depth=2:width=32", 1, 8, 400),
    ("convnet:depth=2:width=32", 1, 28, 150),
    ("convnet:depth=3:width=64", 3, 32, 60),
    ("convnet", 1, 28, 30),
    ("convnet", 3, 32, 30),
)
IMAGES = 10
STRATEGY = "color_crop_cutout_flip_scale_rotate"


def work(connection: Connection, together: Barrier, threads: int) -> None:
    """Takes the steps of the cases that it is sent, beginning with the others of its way."""
    from torch.optim import SGD

    from sdc_ext._memory import keep_freed_memory
    from sdc_ext.augment.parse import parse_augmentation
    from sdc_ext.networks.create import create_network
    from sdc_ext.training.epochs import train_epoch

    keep_freed_memory()
    torch.set_num_threads(threads)
    augmentation = parse_augmentation(STRATEGY)
    while (number := connection.recv()) is not None:
        network, channels, side, steps = CASES[number]
        model = create_network(network, channels, IMAGES, (side, side)).train()
        optimizer = SGD(model.parameters(), lr=0.01, momentum=0.9)
        images = torch.randn(IMAGES, channels, side, side)
        labels = torch.arange(IMAGES)
        step = partial(
            *(train_epoch, model, optimizer, images, labels),
            batch_size=IMAGES,
            augmentation=augmentation,
        )

        for _ in range(3):
            step()
        together.wait()
        started = time.perf_counter()
        for _ in range(steps):
            step()
        connection.send(steps / (time.perf_counter() - started))


class Way:
    """Processes that take steps at the same time.

    Args:
        processes: Their number.
        threads: The number of threads of each.
    """

    def __init__(self, processes: int, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._together = context.Barrier(processes)  # which lasts as long as this object
        self._workers = []
        for _ in range(processes):
            here, there = context.Pipe()
            arguments = there, self._together, threads
            context.Process(target=work, args=arguments, daemon=True).start()
            self._workers.append(here)

    def speed(self, number: int) -> float:
        """Steps per second of all processes together."""
        for worker in self._workers:
            worker.send(number)
        return float(sum(worker.recv() for worker in self._workers))

    def end(self) -> None:
        for worker in self._workers:
            worker.send(None)


def main() -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()

    from rich.console import Console
    from rich.table import Table

    cores = len(os.sched_getaffinity(0))
    ways = [Way(1, cores), Way(cores, 1)]
    console = Console(highlight=False)
    console.print(f"{platform.machine()}, {cores} cores, torch {torch.__version__}")
    table = Table(title=f"steps on {IMAGES} images, {options.rounds} rounds", title_justify="left")
    for column in ("network", "images", f"1 process, {cores} threads", f"{cores} of 1", "ratio"):
        table.add_column(column)
    for number, (network, channels, side, _) in enumerate(CASES):
        rounds = [[way.speed(number) for way in ways] for _ in range(options.rounds)]
        medians = [statistics.median(column) for column in zip(*rounds, strict=True)]
        ratios = [side_by_side / alone for alone, side_by_side in rounds]
        table.add_row(
            network,
            f"{channels}x{side}x{side}",
            *(f"{median:.1f} /s" for median in medians),
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
        )
    console.print(table)
    for way in ways:
        way.end()


if __name__ == "__main__":
    main()

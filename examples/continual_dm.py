r"""Learns classes step by step from a memory of distilled images, as DM's continual learning does.

    python examples/continual_dm.py

Classes arrive in steps, in a random order. At each step a few images of every new class go into the
memory, a network is trained from scratch on the whole memory (GDumb), and it is tested on all
classes so far. The memory holds random images, herding's, DM's, or DM's with SDC; all of them see
the same orders of classes and the same initial networks. It prints two tables and leaves
``continual.csv`` and ``continual.png``.

Reference: Zhao and Bilen, "Dataset Condensation with Distribution Matching" (WACV 2023), 4.3,
and ``CL_DM.py`` of DatasetCondensation: CIFAR-100, 20 images per class, 5 or 10 steps::

    python examples/continual_dm.py --dataset cifar100 --data-dir data --network convnet \
        --ipc 20 --steps 10 --iterations 20000 --epoch-eval-train 1000
"""

import csv
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import track
from rich.table import Table

from sdc_ext import distill, evaluate_set, load_data, select_set
from sdc_ext.cli import run_program
from sdc_ext.data import RealData, Split
from sdc_ext.evaluation import PairedDifference
from sdc_ext.sets import SyntheticSet

METHODS = ("random", "herding", "DM", "DM + SDC")


def part_of(data: RealData, classes: Sequence[int]) -> RealData:
    """The images of some classes, whose labels count from 0 in the given order."""
    labels = torch.full((len(data.classes),), -1)
    labels[list(classes)] = torch.arange(len(classes))

    def part(split: Split) -> Split:
        mapped = labels[split.labels]
        return Split(split.images[mapped >= 0], mapped[mapped >= 0])

    names = tuple(data.classes[c] for c in classes)
    return replace(data, train=part(data.train), test=part(data.test), classes=names)


def new_images(method: str, data: RealData, seed: int, options: Namespace) -> SyntheticSet:
    """The images of the new classes that the memory keeps."""
    how = {"ipc": options.ipc, "seed": seed, "network": options.network, "progress": False}
    if method in ("random", "herding"):
        return select_set(method, data, like="dm", **how)
    run = {"iterations": options.iterations, "eval_every": options.iterations}
    run |= {"num_eval": 1, "epoch_eval_train": 1}  # the memory is evaluated as a whole
    strength = {"share": options.share} if method == "DM + SDC" else {"lam": 0.0}
    with TemporaryDirectory(prefix="sdc-continual-") as folder:
        return distill("dm", data, out=Path(folder) / "set", **how, **run, **strength)


def accuracies(method: str, data: RealData, seed: int, options: Namespace) -> Iterator[float]:
    """The accuracy on all classes so far, after each step."""
    order = torch.randperm(
        len(data.classes), generator=torch.Generator().manual_seed(seed)
    ).tolist()
    memory: list[SyntheticSet] = []
    for classes in torch.arange(len(order)).chunk(options.steps):
        new = [order[k] for k in classes]
        memory.append(new_images(method, part_of(data, new), seed, options))
        seen = part_of(data, order[: int(classes[-1]) + 1])
        offsets = torch.tensor([0, *(len(one.info.classes) for one in memory)]).cumsum(0)
        labels = torch.cat([a.hard_labels + b for a, b in zip(memory, offsets[:-1], strict=True)])
        images = torch.cat([one.images for one in memory])
        info = replace(memory[0].info, classes=seen.classes)
        tested = evaluate_set(
            SyntheticSet.of(images, labels, info, seen),
            seen,
            networks=options.network,
            num_eval=options.num_eval,
            epoch_eval_train=options.epoch_eval_train,
            seed=seed,
            progress=False,
        )
        yield tested.results[0].evaluation.mean


def interval(values: Sequence[float]) -> str:
    """A mean over seeds in percent, with half of its 95 % interval."""
    paired = PairedDifference.of(values, [0.0] * len(values))
    return f"{100 * paired.mean:.2f} ± {100 * (paired.t_interval[1] - paired.mean):.2f}"


def table_of(found: dict[str, list[list[float]]]) -> Iterator[Table]:
    """The accuracies after each step, and the differences to random images after the last."""
    steps = len(found["random"][0])
    table = Table("memory", *(f"step {k + 1}" for k in range(steps)), title="accuracy in %")
    for method, runs in found.items():
        table.add_row(method, *(interval([run[k] for run in runs]) for k in range(steps)))
    yield table
    table = Table("memory", "after the last step", "mean over steps", title="minus random, points")
    for method in METHODS[1:]:
        pairs = list(zip(found[method], found["random"], strict=True))
        last = [a[-1] - b[-1] for a, b in pairs]
        mean = [(sum(a) - sum(b)) / steps for a, b in pairs]
        table.add_row(method, interval(last), interval(mean))
    yield table


def draw(found: dict[str, list[list[float]]], path: str) -> None:
    """Draws the mean accuracy after each step."""
    figure = Figure(figsize=(5, 3.5), layout="constrained")
    axis = figure.subplots()
    for method, runs in found.items():
        means = 100 * torch.tensor(runs).mean(0)
        axis.plot(range(1, len(means) + 1), means, marker="o", label=method)
    axis.set(xlabel="step", ylabel="accuracy on all classes so far, %")
    axis.legend()
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--data-dir")
    parser.add_argument("--network", default="convnet:depth=2:width=16")
    parser.add_argument("--ipc", type=int, default=2, help="images per class in the memory")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=5, help="orders of classes, at least 2")
    parser.add_argument("--iterations", type=int, default=100)
    parser.add_argument("--share", type=float, default=0.1, help="strength of SDC")
    parser.add_argument("--num-eval", type=int, default=2, help="networks per step")
    parser.add_argument("--epoch-eval-train", type=int, default=100)
    options = parser.parse_args()
    if options.seeds < 2:
        parser.error("--seeds must be at least 2, since the tables have intervals over them")

    where = {} if options.data_dir is None else {"data_dir": options.data_dir}
    data = load_data(options.dataset, **where)
    found: dict[str, list[list[float]]] = {method: [] for method in METHODS}
    cells = [(seed, method) for seed in range(options.seeds) for method in METHODS]
    for seed, method in track(cells, "learning"):
        found[method].append(list(accuracies(method, data, seed, options)))

    with Path("continual.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["memory", "seed", "step", "accuracy"])
        for method, runs in found.items():
            for seed, run in enumerate(runs):
                rows.writerows((method, seed, *one) for one in enumerate(run, 1))
    console = Console(highlight=False)
    for table in table_of(found):
        console.print(table)
    draw(found, "continual.png")
    print("continual.csv, continual.png")


if __name__ == "__main__":
    sys.exit(run_program("continual_dm.py", main))

"""Compares how soon representative real images reach the accuracy of plain distillation.

    python benchmarks/time_to_accuracy.py dc --data mnist --data-dir DATA --ipc 1 10 --seeds 6 \
        --out runs/time-to-accuracy [--network convnet:width=32:depth=3 --batch-real 64 ...] \
        [--upstream DIR]

The reference is the mean accuracy of plain runs after all iterations (100). Each arm has a run with
each of the same seeds: `batches` matches representative real images, `start` begins with them, and
`both` does both, in `fast` with bf16 and compiled. `real` begins with random real images, as a
control of `start`; leave it out for methods that always do so.

Every run is evaluated at the iterations of `--at`, with the last of which all but the plain runs
end. The table has the processor time until then, with clusterings and without evaluations, and
paired differences to the plain runs at the same iteration and at the end. Compiling takes
processes of its own, whose time is not counted. DIR is a checkout of VICO-UoE/DatasetCondensation,
whose script is timed for ten iterations. Further options are settings of the method, as in `sdc-ext
distill`. The same call continues what was stopped, from the runs in `--out`.
"""

from __future__ import annotations

import json
import re
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from accelerate.state import AcceleratorState
from original_script import seconds_per_iteration
from rich.console import Console
from rich.table import Table

from sdc_ext._files import as_table, as_text, write_whole
from sdc_ext.adapters import Method, get_method
from sdc_ext.data import RealData, load_data
from sdc_ext.engine import Callback
from sdc_ext.engine.engine import Engine
from sdc_ext.evaluation.paired import PairedDifference, points, signed
from sdc_ext.verbs.arms import written_arm
from sdc_ext.verbs.session import make_accelerator, set_up

BATCHES = {"sampling": "representative"}
START = {"init": "representative"}
ARMS = {"plain": {}, "batches": BATCHES, "real": {"init": "real"}, "start": START}
ARMS["both"] = ARMS["fast"] = BATCHES | START


class Stopwatch(Callback):
    """Keeps the processor seconds after each iteration beside the run, without evaluations.

    Args:
        path: The file of the seconds, which the start of the run is the first of.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.seconds = [0.0]
        self._since = time.process_time()

    def on_start(self, iteration: int, iterations: int) -> None:
        """Counts the start, or goes on from the seconds of a stopped run."""
        if iteration == 0:
            self.seconds = [self._lap()]
        else:
            self.read(iteration)
            self._lap()

    def on_step(self, iteration: int, log: Mapping[str, float], state: object) -> None:
        """Counts an iteration."""
        self.seconds.append(self.seconds[-1] + self._lap())
        write_whole(self._path, as_text(json.dumps(self.seconds)))

    def on_save(self, *_: object) -> None:
        """Leaves out what came after the iteration: evaluating and saving."""
        self._lap()

    def read(self, iterations: int) -> None:
        """Reads the seconds of the first iterations of a run."""
        self.seconds = json.loads(self._path.read_text())[: iterations + 1]

    def _lap(self) -> float:
        before, self._since = self._since, time.process_time()
        return self._since - before


@dataclass(frozen=True)
class Point:
    """An arm after some iterations: one accuracy and one number of seconds per seed."""

    accuracies: tuple[float, ...]
    seconds: tuple[float, ...]

    @property
    def accuracy(self) -> float:
        """The mean over the seeds."""
        return fmean(self.accuracies)

    @property
    def minutes(self) -> float:
        """The mean over the seeds."""
        return fmean(self.seconds) / 60


Run = Mapping[int, tuple[float, float]]
"""The accuracy and the seconds of one run after some iterations."""

Curve = Mapping[int, Point]


@dataclass(frozen=True)
class Study:
    """All runs of a method on some data; an option is one of the command line."""

    method: Method
    data: RealData
    settings: Mapping[str, Any]
    options: Namespace

    @property
    def seeds(self) -> range:
        """The seeds of every arm."""
        return range(self.options.first_seed, self.options.first_seed + self.options.seeds)

    def curves(self, ipc: int) -> dict[str, Curve]:
        """The curves of all arms at one ipc."""
        runs: dict[str, list[Run]] = {arm: [] for arm in self.options.arms}
        for seed in self.seeds:
            for arm, of_seeds in runs.items():
                of_seeds.append(self._run(ipc, seed, arm))
                accuracy, seconds = of_seeds[-1][max(of_seeds[-1])]
                done = f"ipc {ipc}, seed {seed}, {arm}"
                print(f"{done}: {100 * accuracy:.2f} %, {seconds:.0f} s", flush=True)
        return {arm: dict(_joined(of_seeds)) for arm, of_seeds in runs.items()}

    def _run(self, ipc: int, seed: int, arm: str) -> Run:
        out = self.options.out / f"ipc-{ipc}" / arm / f"seed-{seed}"
        at, fast = self.options.at, arm == "fast"
        iterations = self.options.iterations if arm == "plain" else max(at)
        settings = {**self.settings, **ARMS[arm], "iterations": iterations}
        AcceleratorState._reset_state(reset_partial_state=True)  # which keeps the precision
        accelerator = make_accelerator("bf16" if fast else "no")
        resolved, task = set_up(self.method, self.data, ipc, settings, accelerator, fast)
        watch = Stopwatch(out.with_suffix(".json"))
        engine = Engine(self.method, resolved, task, seed, out, [watch], evaluate_at=at)
        made = engine.kept() or engine.distill(resume=True)
        watch.read(iterations)
        found = {row["iteration"]: row["mean"] for row in made.info.accuracies}
        return {at: (accuracy, watch.seconds[at]) for at, accuracy in found.items()}


def _joined(of_seeds: Sequence[Run]) -> Iterator[tuple[int, Point]]:
    for at in of_seeds[0]:
        accuracies, seconds = zip(*(of_seed[at] for of_seed in of_seeds), strict=True)
        yield at, Point(accuracies, seconds)


def table(title: str, found: Mapping[str, Curve], iterations: int) -> Table:
    """Every point of every arm, with its differences to the plain runs."""
    shown = Table(
        *("arm", "iterations", "minutes", "accuracy %"),
        *("minus plain, same iteration", "95 %", f"minus {iterations} plain", "95 %"),
        title=title,
    )
    plain = found["plain"]
    for arm, curve in found.items():
        for at, point in curve.items():
            row = [arm, str(at), f"{point.minutes:.2f}", f"{100 * point.accuracy:.2f}"]
            for base in (plain[at], plain[iterations]):
                row += ["", ""] if point is base else _difference(point, base)
            shown.add_row(*row)
        shown.add_section()
    return shown


def _difference(point: Point, base: Point) -> list[str]:
    difference = PairedDifference.of(point.accuracies, base.accuracies)
    return [signed(difference.mean), points(difference.t_interval)]


def original_minutes(study: Study, ipc: int) -> float:
    """The processor minutes of all iterations of the original script, by those of ten."""
    o, settings = study.options, study.settings
    width = re.search(r"width=(\d+)", settings.get("network", ""))
    seconds = seconds_per_iteration(
        *(o.upstream, o.data_dir, study.method.name, ipc),
        width=128 if width is None else int(width[1]),
        batch_real=settings.get("batch_real", 256),
        inner_loop=settings.get("inner_loop"),
    )
    return o.iterations * seconds / 60


def reached(found: Mapping[str, Curve], iterations: int) -> Iterator[str]:
    """A sentence per arm: the iterations and minutes in which it reaches the reference."""
    reference = found["plain"][iterations]
    for arm, curve in found.items():
        accuracy = f"{arm}: {100 * reference.accuracy:.2f} %, as {iterations} plain iterations"
        at = next((at for at, p in curve.items() if p.accuracy >= reference.accuracy), None)
        if at is None:
            yield f"{accuracy}, is not reached"
        else:
            faster = reference.minutes / curve[at].minutes
            yield (
                f"{accuracy}, after {at} iterations and {curve[at].minutes:.2f} minutes "
                f"({faster:.2f} times as fast)"
            )


def rows(seeds: range, found: Mapping[str, Curve]) -> Iterator[dict[str, object]]:
    """One row per arm, point and seed, for other tables."""
    for arm, curve in found.items():
        for at, point in curve.items():
            for seed, *values in zip(seeds, point.accuracies, point.seconds, strict=True):
                where = {"arm": arm, "seed": seed, "iterations": at}
                yield where | dict(zip(("accuracy", "seconds"), values, strict=True))


def read_options() -> tuple[Namespace, Method, dict[str, Any]]:
    """The options, the method, and its settings."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("method")
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--ipc", type=int, nargs="+", default=[1, 10])
    parser.add_argument("--iterations", type=int, default=100)
    parser.add_argument("--at", type=int, nargs="+", default=[10, 20, 30, 50])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--upstream", type=Path, metavar="DIR")
    parser.add_argument("--out", type=Path, default=Path("runs/time-to-accuracy"))
    o, rest = parser.parse_known_args()
    if o.seeds < 2:
        parser.error(f"paired differences need at least 2 seeds, got {o.seeds}")
    if len(rest) % 2:
        parser.error(f"settings are written --name value, got {' '.join(rest)}")
    o.arms = list(dict.fromkeys(["plain", *o.arms]))
    method = get_method(o.method)
    text = " ".join(f"{name}={value}" for name, value in zip(rest[::2], rest[1::2], strict=True))
    return o, method, written_arm(text, method) | {"iterations": o.iterations}


def main() -> None:
    o, method, settings = read_options()
    study = Study(method, load_data(o.data, o.data_dir), settings, o)
    for ipc in o.ipc:
        found = study.curves(ipc)
        points_file = o.out / f"ipc-{ipc}" / "points.csv"
        write_whole(points_file, as_table(list(rows(study.seeds, found))))
        console = Console(width=140)
        console.print(table(f"{method.name}, {study.data.name}, ipc {ipc}", found, o.iterations))
        for sentence in reached(found, o.iterations):
            console.print(sentence)
        if o.upstream is not None:
            minutes = original_minutes(study, ipc)
            console.print(f"original script: {o.iterations} iterations take {minutes:.2f} minutes")


if __name__ == "__main__":
    main()

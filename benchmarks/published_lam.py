"""Measures which share of the image gradient the published lam has, for each method.

    python benchmarks/published_lam.py FOLDER [--methods dc mtt] [--ipc 1 10] [--seconds 25]

FOLDER is an image folder, e.g. of photographs of 32x32 pixels. All settings are those for CIFAR-10,
the lam of the paper's tables among them. The share is measured in every third update, and each run
ends after some seconds. Trajectory matching first trains one expert. Runs of several methods may be
started side by side on a GPU; each then makes fewer iterations in its time.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from sdc_ext import distill, load_data, strength, train_experts
from sdc_ext.adapters import METHODS, Settings, State, get_method, resolve
from sdc_ext.data import RealData
from sdc_ext.engine import Callback, StopRun
from sdc_ext.strength import DEFAULT_LAM, STRENGTHS

DATA_SET = "cifar10"
EVERY = 3
# What a run of some seconds has no use for, or what belongs to the data.
LEFT_OUT = {"iterations", "eval_every", "num_eval", "epoch_eval_train", "statistics"}


class Watch(Callback):
    """Keeps the log of a run, and ends it after some seconds."""

    def __init__(self, seconds: float) -> None:
        self.log: list[Mapping[str, float]] = []
        self._ends = time.monotonic() + seconds

    def on_step(self, iteration: int, log: Mapping[str, float], state: State) -> None:
        self.log.append(dict(log))
        if time.monotonic() > self._ends:
            raise StopRun


def published(settings: Settings) -> dict[str, Any]:
    """The values of settings that have an effect."""
    without = {*LEFT_OUT, *STRENGTHS, *settings.loop.unused}
    given = {name: one.value for name, one in settings.origin.items() if name not in without}
    return {
        **{n: v for n, v in given.items() if v is not None},
        "lam": settings.run.lam or DEFAULT_LAM,
    }


def measure(method: str, data: RealData, ipc: int, seconds: float, folder: Path) -> Watch:
    """The log of one run."""
    settings = resolve(get_method(method), DATA_SET, ipc, {})
    given, epochs = published(settings), settings.loop.epochs_needed
    if epochs > 0:
        shared = {name: given[name] for name in ("network", "zca")}
        given["experts"] = folder / "experts"
        train_experts(
            method, data, ipc=ipc, num_experts=1, train_epochs=epochs, out=given["experts"],
            progress=False, **shared,
        )  # fmt: skip
    watch = Watch(seconds)
    distill(
        method, data, ipc=ipc, out=folder / "run", iterations=10**6, eval_every=10**6, num_eval=1,
        epoch_eval_train=1, progress=False, callbacks=[watch], **given,
    )  # fmt: skip
    return watch


def main() -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--methods", nargs="+", default=METHODS.names())
    parser.add_argument("--ipc", type=int, nargs="+", default=[1, 10])
    parser.add_argument("--seconds", type=float, default=25)
    options = parser.parse_args()
    strength.RECORDED_EVERY = EVERY
    data = load_data("imagefolder", options.folder)
    console = Console(highlight=False)
    console.print("method ipc lam iterations first mean cosine lam_for_a_tenth")
    for method in options.methods:
        for ipc in options.ipc:
            with tempfile.TemporaryDirectory() as folder:
                log = measure(method, data, ipc, options.seconds, Path(folder)).log
            share, cosine = (
                statistics.fmean(row[name] for row in log) for name in ("share", "cosine")
            )
            lam = log[0]["lam"]
            console.print(
                f"{method} {ipc} {lam:g} {len(log)} {log[0]['share']:.2g} {share:.2g} "
                f"{cosine:+.2f} {0.1 * lam / share:.2g}"
            )


if __name__ == "__main__":
    main()

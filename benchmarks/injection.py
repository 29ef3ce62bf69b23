r"""Times what ``sdc-ext run`` adds to the image steps of an unmodified script.

    python benchmarks/injection.py DatasetCondensation/main.py --dataset MNIST --data_path DATA \
        --num_eval 0 --num_exp 1 --Iteration 60

The script runs once, with the repairs that it needs here. Its image steps take turns in shuffled
order: one untouched, one with lam 0, one with lam 0.002, one that measures its share as well. In a
real run with this lam, one step in 151 is of the last kind. A step is the time between two updates
of the images. Each ratio compares two steps of one turn, so that whatever else happens on
the machine hits both. The table shows the median over turns and its 95 % bootstrap interval.
"""

from __future__ import annotations

import functools
import random
import sys
import time
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from sdc_ext.injection.hooks import images_of, inject
from sdc_ext.injection.runner import Script
from sdc_ext.strength import Strength

MEASURED = "lam 0.002, measured"
CASES = {"untouched": None, "lam 0": 0.0, "lam 0.002": 0.002, MEASURED: 0.002}


class Turns:
    """Switches the injection after every image step and notes how long the step took."""

    def __init__(self, profile: Any) -> None:
        self.seconds: list[dict[str, float]] = []
        self._profile = profile
        self._order: list[str] = []
        self._case: str | None = None
        self._active = ExitStack()
        self._since = time.perf_counter()

    def after_step(self) -> None:
        now = time.perf_counter()
        if self._case is not None:
            self.seconds[-1][self._case] = now - self._since
        self._active.close()
        if not self._order:
            self._order = random.sample(list(CASES), len(CASES))
            self.seconds.append({})
        self._case = self._order.pop()
        # Each turn is an injection of its own, which would otherwise measure in its first step.
        measures = self._case == MEASURED
        Strength.measures = property(lambda _: measures)
        lam = CASES[self._case]
        if lam is not None:
            self._active.enter_context(inject(lam, profile=self._profile))
        self._since = time.perf_counter()

    def ratios(self, case: str) -> np.ndarray:
        turns = [turn for turn in self.seconds if len(turn) == len(CASES)]
        return np.array([turn[case] / turn["untouched"] for turn in turns])


def main() -> None:
    script = Script.read(sys.argv[1])
    turns = Turns(script.profile)
    torch.optim.SGD([torch.zeros(1, requires_grad=True)])  # makes torch wrap the method first
    original = torch.optim.SGD.step

    @functools.wraps(original)
    def step(optimizer: torch.optim.SGD, *args: Any, **kwargs: Any) -> Any:
        result = original(optimizer, *args, **kwargs)
        if images_of(optimizer):
            turns.after_step()
        return result

    torch.optim.SGD.step = step
    if script.run(sys.argv[2:], None, seed=0):
        raise SystemExit("the script failed")
    report(turns)


def report(turns: Turns) -> None:
    table = Table(title=" ".join(sys.argv[1:]), title_justify="left")
    for column in ("case", "s a step, median", "ratio", "95 %", "turns"):
        table.add_column(column)
    draw = np.random.default_rng(0)
    for case in CASES:
        seconds = np.median([turn[case] for turn in turns.seconds if case in turn])
        ratios = turns.ratios(case)
        medians = [np.median(draw.choice(ratios, len(ratios))) for _ in range(2000)]
        low, high = np.percentile(medians, [2.5, 97.5])
        span = f"{low:.3f} to {high:.3f}"
        table.add_row(case, f"{seconds:.4f}", f"{np.median(ratios):.3f}", span, str(len(ratios)))
    Console().print(table)


if __name__ == "__main__":
    main()

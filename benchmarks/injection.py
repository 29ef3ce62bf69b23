"""What ``sdc-ext run`` costs a script: time an image step, as a ratio to the script untouched.

    python benchmarks/injection.py --rounds 4 -- DatasetCondensation/main.py --dataset MNIST \\
        --data_path DATA --num_eval 0 --num_exp 1 --Iteration 8

Every case runs in a process of its own, in shuffled order, with the shims that the script needs
here. A step is the time between two updates of the images; the quickest of a run is its figure, as
everything else that happens on a machine only slows a step down. Shown are the quickest run of all
rounds, and the range over them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

CASES = {"untouched": None, "lam 0": 0.0, "lam 0.002": 0.002}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--one", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- SCRIPT [ARGUMENTS]")
    options = parser.parse_args()
    command = [c for c in options.command if c != "--"]
    if options.one:
        run_one(CASES[options.one], command)
        return
    figures: dict[str, list[float]] = {case: [] for case in CASES}
    for _ in range(options.rounds):
        for case in random.sample(list(CASES), len(CASES)):
            figures[case].append(measure(case, command))
    base = min(figures["untouched"])
    table = Table(title=" ".join(command), title_justify="left")
    for column in ("case", "s a step", "ratio", "range"):
        table.add_column(column)
    for case, seconds in figures.items():
        low, high = min(seconds), max(seconds)
        table.add_row(case, f"{low:.4f}", f"{low / base:.3f}", f"to {high / base:.3f}")
    Console().print(table)


def measure(case: str, command: list[str]) -> float:
    """Seconds a step of one run in a fresh process."""
    program = [sys.executable, __file__, "--one", case, "--", *command]
    with tempfile.TemporaryFile("w+") as out:
        status = subprocess.run(program, stdout=subprocess.DEVNULL, stderr=out, check=False)
        out.seek(0)
        report = out.read()
    if status.returncode:
        raise SystemExit(report)
    return float(json.loads(report.splitlines()[-1])["seconds"])


def run_one(lam: float | None, command: list[str]) -> None:
    from torch.optim import Optimizer
    from torch.optim.optimizer import register_optimizer_step_post_hook

    from sdc_ext.injection import images_of, inject
    from sdc_ext.runner import Script

    times: list[float] = []

    def note(optimizer: Optimizer, *_: object) -> None:
        if images_of(optimizer) is not None:
            times.append(time.perf_counter())

    script = Script.read(Path(command[0]))
    register_optimizer_step_post_hook(note)
    injection = None if lam is None else inject(lam, profile=script.profile)
    status = script.run(command[1:], injection, seed=0)
    steps = [b - a for a, b in itertools.pairwise(times)]
    print(json.dumps({"seconds": min(steps[1:])}), file=sys.stderr)
    raise SystemExit(status)


if __name__ == "__main__":
    main()

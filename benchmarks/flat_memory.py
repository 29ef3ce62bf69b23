"""Follows memory and open files over many iterations of one run, each in a process of its own.

    python benchmarks/flat_memory.py [--iterations 500]

Resident memory is read at every tenth of the run, after a collection of garbage; so are open file
descriptors. The digits, a ConvNet of 2 blocks of 32. Memory should not grow from the second tenth
on: before it, the first evaluation and the pools of the allocator are made.
"""

from __future__ import annotations

import gc
import os
import re
import subprocess
import sys
import tempfile
from argparse import ArgumentParser
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NETWORK = "convnet:depth=2:width=32"
CASES = ("dc", "dsac", "dm", "mtt", "evaluation", "compare")


def resident() -> tuple[float, int]:
    """Resident memory in MB, and the number of open file descriptors."""
    gc.collect()
    (kilobytes,) = re.findall(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(kilobytes) / 1000, len(os.listdir("/proc/self/fd"))


def run(case: str, iterations: int) -> None:
    """Runs a case and prints a line per tenth."""
    import sdc_ext
    from sdc_ext._memory import keep_freed_memory
    from sdc_ext.engine import Callback

    keep_freed_memory()

    class Follow(Callback):
        def on_step(self, iteration: int, log: Mapping[str, Any], state: object) -> None:
            if iteration % (iterations // 10) == 0:
                print(*resident(), flush=True)

    small: dict[str, Any] = {"network": NETWORK, "num_eval": 1, "epoch_eval_train": 20}
    quiet: dict[str, Any] = {"progress": False}
    with tempfile.TemporaryDirectory() as temporary:
        os.chdir(temporary)
        if case == "evaluation":
            synthetic = sdc_ext.select_set("random", out="set", **quiet)
            for _ in range(10):
                epochs = 2 * iterations
                sdc_ext.evaluate_set(synthetic, num_eval=1, epoch_eval_train=epochs, **quiet)
                print(*resident(), flush=True)
        elif case == "compare":
            for seeds in range(2, 12):
                small |= {"iterations": iterations // 20, "epoch_eval_train": 5}
                sdc_ext.compare("dc", seeds=seeds, out="runs", **small, **quiet)
                print(*resident(), flush=True)
        else:
            if case == "mtt":
                small |= {"syn_steps": 5, "expert_epochs": 1, "max_start_epoch": 1}
            every = iterations // 10
            sdc_ext.distill(
                case,
                iterations=iterations,
                eval_every=every,
                callbacks=[Follow()],
                out="run",
                **small,
                **quiet,
            )


def main() -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--iterations", type=int, default=500)
    parser.add_argument("--case", choices=CASES)
    options = parser.parse_args()
    if options.case:
        run(options.case, options.iterations)
        return
    print("| case | MB at each tenth | grown since the second | open files |\n|---|---|---|---|")
    for case in CASES:
        command = [sys.executable, __file__, "--iterations", str(options.iterations)]
        done = subprocess.run([*command, "--case", case], capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr)
        memory, files = zip(*(line.split() for line in done.stdout.splitlines()), strict=True)
        megabytes = [float(value) for value in memory]
        grown = megabytes[-1] - megabytes[1]
        shown = " ".join(f"{value:.0f}" for value in megabytes)
        print(f"| {case} | {shown} | {grown:+.1f} | {files[1]} to {files[-1]} |", flush=True)


if __name__ == "__main__":
    main()

"""Times iterations of the original script of DC and DSA on MNIST.

    python benchmarks/original_script.py UPSTREAM --data-dir DATA [--method dc] [--ipc 1 10]
        [--width 128] [--batch-real 256] [--inner-loop N] [--iterations 10]

UPSTREAM is a checkout of VICO-UoE/DatasetCondensation; DATA has MNIST in torchvision's layout. The
times are processor seconds of one process from the end of the first iteration on, before which the
script evaluates. What its command line does not choose is changed from outside: the network's width
and the epochs between its steps.
"""

from __future__ import annotations

import io
import multiprocessing
import re
import runpy
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from contextlib import redirect_stdout
from multiprocessing.connection import Connection
from pathlib import Path

EVERY = 10  # iterations between two lines of the script's log


def seconds_per_iteration(
    upstream: Path,
    data_dir: Path,
    method: str,
    ipc: int,
    *,
    width: int = 128,
    batch_real: int = 256,
    inner_loop: int | None = None,
    iterations: int = EVERY,
) -> float:
    """The processor seconds of an iteration, as a mean over a whole number of tens of them.

    Args:
        upstream: The checkout.
        data_dir: The folder of MNIST.
        method: Either of ``dc`` and ``dsa``.
        ipc: The number of images per class.
        width: The number of channels of the ConvNet.
        batch_real: The number of real images per class and step.
        inner_loop: The number of epochs between steps; None is the script's own.
        iterations: The number of iterations.
    """
    if iterations < EVERY or iterations % EVERY:
        raise ValueError(f"the script logs every {EVERY} iterations, got {iterations} of them")
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    given = ["--dataset", "MNIST", "--data_path", str(data_dir.resolve())]
    given += ["--method", method.upper(), "--ipc", str(ipc), "--batch_real", str(batch_real)]
    given += ["--Iteration", str(iterations)]
    arguments = (upstream.resolve(), width, inner_loop, given, there)
    script = context.Process(target=_run, args=arguments)
    script.start()
    there.close()
    log = here.recv()  # an EOFError where the script failed, with its own words above
    script.join()
    seconds = {int(at): float(time) for time, at in re.findall(r"(\S+) iter = (\d+)", log)}
    return (seconds[iterations] - seconds[0]) / iterations


def _run(
    upstream: Path, width: int, inner_loop: int | None, arguments: Sequence[str], log: Connection
) -> None:
    sys.path.insert(0, str(upstream))
    import utils as original_utils  # type: ignore[import-not-found]

    network = (width, *original_utils.get_default_convnet_setting()[1:])
    original_utils.get_default_convnet_setting = lambda: network
    loops = original_utils.get_loops
    if inner_loop is not None:
        original_utils.get_loops = lambda ipc: (loops(ipc)[0], inner_loop)
    original_utils.get_time = lambda: f"{time.process_time():.3f}"
    sys.argv = ["main.py", "--num_exp", "1", "--num_eval", "1", "--epoch_eval_train", "1"]
    with tempfile.TemporaryDirectory() as results, redirect_stdout(io.StringIO()) as out:
        sys.argv += ["--save_path", results, *arguments]
        runpy.run_path(str(upstream / "main.py"), run_name="__main__")
    log.send(out.getvalue())


def main() -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("upstream", type=Path)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--method", default="dc", choices=["dc", "dsa"])
    parser.add_argument("--ipc", type=int, nargs="+", default=[1, 10])
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--batch-real", type=int, default=256)
    parser.add_argument("--inner-loop", type=int)
    parser.add_argument("--iterations", type=int, default=EVERY)
    given = vars(parser.parse_args())
    for ipc in given.pop("ipc"):
        seconds = seconds_per_iteration(ipc=ipc, **given)
        print(f"{given['method']}, ipc {ipc}: {seconds:.2f} s per iteration", flush=True)


if __name__ == "__main__":
    main()

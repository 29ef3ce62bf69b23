"""Distils the bundled digits with and without SDC, and compares them with random images.

``python examples/demo.py`` prints a table and leaves ``demo.png``; about two minutes on two cores.
"""

from __future__ import annotations

import tempfile
import time
from argparse import ArgumentParser
from pathlib import Path

from accelerate import Accelerator
from rich.console import Console
from rich.progress import track

from sdc_ext.adapters import get_method
from sdc_ext.adapters.base import Task
from sdc_ext.adapters.gradient import GradientMatching
from sdc_ext.adapters.settings import resolve
from sdc_ext.data import load_data
from sdc_ext.engine import Engine
from sdc_ext.evaluate import Evaluation, evaluate
from sdc_ext.files import write_whole
from sdc_ext.memory import keep_freed_memory
from sdc_ext.pictures import draw_comparison
from sdc_ext.report import evaluation_table
from sdc_ext.seeds import seed_torch
from sdc_ext.synthetic import SyntheticSet

NETWORK = "convnet:depth=2:width=64"


def make_engine(task: Task, iterations: int, num_eval: int, lam: float, seed: int) -> Engine:
    """DC at ipc 1 with one evaluation at the end, in a folder of its own."""
    method = get_method("dc")
    chosen = {
        "network": NETWORK,
        "iterations": iterations,
        "eval_every": iterations,
        "num_eval": num_eval,
        "lam": lam,
    }
    settings = resolve(method, task.data.name, task.ipc, chosen)
    out = Path(tempfile.mkdtemp(prefix="sdc-demo-")) / "set"
    return Engine(method, settings, task, seed, out, Console(quiet=True))


def random_images(engine: Engine) -> tuple[SyntheticSet, tuple[float, ...]]:
    """As many random training images, tested on the networks that test the distilled ones."""
    seed_torch(engine.seed, "start")
    start = GradientMatching(init="real").start(engine.task)
    synthetic = engine.synthetic_set(start.images, start.labels)
    evaluation = evaluate(
        synthetic.images,
        synthetic.labels,
        engine.task.data,
        engine.recipe,
        network=NETWORK,
        num_eval=engine.settings.run.num_eval,
        seed=engine.seed,
        accelerator=engine.task.accelerator,
    )
    return synthetic, evaluation.accuracies


def distilled(engine: Engine) -> tuple[SyntheticSet, tuple[float, ...]]:
    """Distilled images with the accuracies of the run's own evaluation."""
    synthetic = engine.distill()
    return synthetic, tuple(synthetic.info.accuracies[-1]["accuracies"])


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--num-eval", type=int, default=5, help="networks a seed")
    parser.add_argument("--iterations", type=int, default=30)
    parser.add_argument("--lam", type=float, default=0.02)
    options = parser.parse_args()

    keep_freed_memory()
    started = time.monotonic()
    task = Task(load_data("digits"), 1, NETWORK, Accelerator())
    ways = {"random images": None, "DC": 0.0, f"DC + SDC (lam {options.lam})": options.lam}
    pictures: dict[str, SyntheticSet] = {}
    accuracies: dict[str, tuple[float, ...]] = dict.fromkeys(ways, ())
    work = [(seed, name, lam) for seed in range(options.seeds) for name, lam in ways.items()]
    for seed, name, lam in track(work, description="distilling"):
        engine = make_engine(task, options.iterations, options.num_eval, lam or 0.0, seed)
        synthetic, tested = random_images(engine) if lam is None else distilled(engine)
        pictures.setdefault(name, synthetic)
        accuracies[name] += tested

    console = Console(highlight=False)
    title = f"digits, 1 image per class, {options.seeds} seeds x {options.num_eval} networks"
    rows = [Evaluation(name, values) for name, values in accuracies.items()]
    console.print(evaluation_table(title, rows, "images"))
    titles = {f"{row.network}\n{row}": pictures[row.network] for row in rows}
    write_whole(Path("demo.png"), lambda path: draw_comparison(titles, path))
    console.print(f"picture: demo.png; {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()

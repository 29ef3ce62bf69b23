"""Distils the bundled digits with and without SDC, and compares them with random images.

``python examples/demo.py`` prints a table and leaves ``demo.png``; about two minutes on two cores.
"""

from __future__ import annotations

import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from rich.console import Console
from rich.progress import track

from sdc_ext._files import write_whole
from sdc_ext._memory import keep_freed_memory
from sdc_ext._seeds import seed_torch
from sdc_ext.adapters import get_method
from sdc_ext.adapters.loops.gradient import GradientMatching
from sdc_ext.adapters.recipes.trajectory import sgd_experts
from sdc_ext.adapters.settings import resolve
from sdc_ext.adapters.task import Task
from sdc_ext.data.load import load_data
from sdc_ext.engine.engine import Engine
from sdc_ext.evaluation.evaluator import evaluate
from sdc_ext.experts.store import ExpertInfo, ExpertStore
from sdc_ext.experts.train import fill_store
from sdc_ext.networks.create import create_network
from sdc_ext.report.figures import draw_comparison
from sdc_ext.report.tables import evaluation_table
from sdc_ext.sets.info import Evaluation
from sdc_ext.sets.synthetic_set import Distilled, SyntheticSet

NETWORK = "convnet:depth=2:width=64"
EPOCHS = 300
RANDOM = "random images"


@dataclass(frozen=True)
class Way:
    """One row of the table: a method with its settings, and the weight of the correction."""

    method: str
    lam: float
    settings: Mapping[str, Any]


MTT = {
    "syn_steps": 20,
    "expert_epochs": 2,
    "max_start_epoch": 4,
    "lr_img": 300.0,
    "lr_lr": 1e-6,
    "lr_teacher": 0.02,
}
NUM_EXPERTS, EXPERT_EPOCHS = 3, 5


def train_few_experts(task: Task, folder: Path) -> ExpertStore:
    """Experts for MTT, for as long as it needs."""
    data = task.data
    model = create_network(NETWORK, *data.network_shape)
    recipe = replace(sgd_experts(data.name, task.ipc), train_epochs=EXPERT_EPOCHS)
    store = ExpertStore.create(folder, ExpertInfo.of(data, NETWORK, model, asdict(recipe), 0))
    fill_store(
        store,
        data,
        NETWORK,
        recipe,
        num_experts=NUM_EXPERTS,
        seed=0,
        accelerator=task.accelerator,
    )
    return store


def make_engine(task: Task, way: Way, num_eval: int, seed: int) -> Engine:
    """A way at ipc 1 with one evaluation at the end, in a folder of its own."""
    method = get_method(way.method)
    chosen = {
        "network": NETWORK,
        "eval_every": way.settings["iterations"],
        "num_eval": num_eval,
        "epoch_eval_train": EPOCHS,
        "lam": way.lam,
        **way.settings,
    }
    settings = resolve(method, task.data.name, task.ipc, chosen)
    out = Path(tempfile.mkdtemp(prefix="sdc-demo-")) / "set"
    return Engine(method, settings, task, seed, out, Console(quiet=True))


def random_images(engine: Engine) -> tuple[SyntheticSet, tuple[float, ...]]:
    """As many random training images, tested on the networks that test the distilled ones."""
    seed_torch(engine.seed, "start")
    start = GradientMatching(init="real").start(engine.task)
    synthetic = engine.synthetic_set(Distilled(start.images, start.labels))
    evaluation = evaluate(
        synthetic.images,
        synthetic.labels,
        engine.task.data,
        engine.settings.recipe(),
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
    parser.add_argument("--num-eval", type=int, default=3, help="networks a seed")
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--lam", type=float, default=0.02)
    options = parser.parse_args()

    keep_freed_memory()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sdc-demo-") as folder:
        task = Task(load_data("digits"), 1, NETWORK, Accelerator())
        experts = train_few_experts(task, Path(folder))
        task = Task(task.data, 1, NETWORK, task.accelerator, experts=experts)
        dc, mtt = {"iterations": options.iterations}, {"iterations": options.iterations, **MTT}
        lam = options.lam
        ways = {
            RANDOM: Way("dc", 0.0, dc),
            "DC": Way("dc", 0.0, dc),
            f"DC + SDC (lam {lam})": Way("dc", lam, dc),
            "MTT": Way("mtt", 0.0, mtt),
            f"MTT + SDC (lam {lam})": Way("mtt", lam, mtt),
        }
        pictures: dict[str, SyntheticSet] = {}
        accuracies: dict[str, tuple[float, ...]] = dict.fromkeys(ways, ())
        work = [(seed, name, way) for seed in range(options.seeds) for name, way in ways.items()]
        for seed, name, way in track(work, description="distilling"):
            engine = make_engine(task, way, options.num_eval, seed)
            synthetic, tested = random_images(engine) if name == RANDOM else distilled(engine)
            pictures.setdefault(name, synthetic)
            accuracies[name] += tested

    console = Console(highlight=False)
    title = f"digits, 1 image per class, {options.seeds} seeds x {options.num_eval} networks"
    rows = {name: Evaluation(NETWORK, values) for name, values in accuracies.items()}
    console.print(evaluation_table(title, rows))
    titles = {f"{name}\n{row}": pictures[name] for name, row in rows.items()}
    write_whole(Path("demo.png"), lambda path: draw_comparison(titles, path))
    console.print(f"picture: demo.png; {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()

"""Distils the bundled digits with and without SDC, and compares the sets with random images.

    python examples/demo.py

It prints a table and leaves ``demo.png``, in about two minutes on two cores.
"""

import sys
from argparse import ArgumentParser, Namespace
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.progress import track

from sdc_ext import distill, evaluate_set, select_set, train_experts
from sdc_ext.cli import run_program
from sdc_ext.report.figures import draw_comparison
from sdc_ext.report.tables import evaluation_table
from sdc_ext.sets import Evaluation, SyntheticSet

NETWORK = "convnet:depth=2:width=64"
MTT = {"syn_steps": 20, "expert_epochs": 2, "max_start_epoch": 4}
MTT |= {"lr_img": 300.0, "lr_lr": 1e-6, "lr_teacher": 0.02}


def make_sets(seed: int, options: Namespace, folder: Path) -> Iterator[tuple[str, SyntheticSet]]:
    """Random images, and what methods distil without and with SDC, by their rows in the table."""
    yield "random images", select_set("random", seed=seed, progress=False)
    run = {"network": NETWORK, "iterations": options.iterations, "eval_every": options.iterations}
    run |= {"num_eval": 1, "epoch_eval_train": 1}  # all sets are evaluated in the end
    for name, settings in (("DC", {}), ("MTT", {"experts": folder / "experts", **MTT})):
        for row, lam in ((name, 0.0), (f"{name} + SDC (lam {options.lam})", options.lam)):
            where = {"out": folder / f"{row}, seed {seed}", "progress": False}
            yield row, distill(name.lower(), lam=lam, seed=seed, **run, **settings, **where)


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--num-eval", type=int, default=3, help="networks per seed")
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--lam", type=float, default=0.02)
    options = parser.parse_args()

    tested, pictures = defaultdict(tuple), {}
    with TemporaryDirectory(prefix="sdc-demo-") as temporary:
        folder = Path(temporary)
        experts = {"network": NETWORK, "num_experts": 3, "train_epochs": 5, "progress": False}
        train_experts("mtt", out=folder / "experts", **experts)
        made = (pair for seed in range(options.seeds) for pair in make_sets(seed, options, folder))
        for row, synthetic in track(made, "distilling", total=5 * options.seeds):
            how = {
                "networks": NETWORK,
                "epoch_eval_train": 300,
                "seed": synthetic.info.value("seed"),
            }
            found = evaluate_set(synthetic, num_eval=options.num_eval, **how, progress=False)
            tested[row] += found.results[0].evaluation.accuracies
            pictures.setdefault(row, synthetic)

    rows = {row: Evaluation(NETWORK, values) for row, values in tested.items()}
    title = f"digits, 1 image per class, {options.seeds} seeds x {options.num_eval} networks"
    Console(highlight=False).print(evaluation_table(title, rows))
    draw_comparison({f"{row}\n{e}": pictures[row] for row, e in rows.items()}, Path("demo.png"))
    print("picture: demo.png")


if __name__ == "__main__":
    sys.exit(run_program("demo.py", main))

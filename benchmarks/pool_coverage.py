"""Worst of 16 networks: sets distilled for one network against sets distilled for a pool.

Distils sets with DM for one ConvNet, for a pool of four networks and for a pool of all sixteen, in
several sizes and with several seeds, evaluates every set on all sixteen, and prints the coverage
laws and the paired differences of the worst-of-M gap. It goes on where it was stopped::

    python benchmarks/pool_coverage.py --out runs/pool-digits
    python benchmarks/pool_coverage.py --dataset mnist --data-dir data/mnist10k --processes 2 \
        --out runs/pool-mnist
"""

from __future__ import annotations

import csv
import shutil
from argparse import ArgumentParser, Namespace
from pathlib import Path

from sdc_ext import distill, evaluate_set
from sdc_ext.cli import main as sdc_ext
from sdc_ext.data import RealData, load_data

ONE = "convnet:width=16:depth=2"
FOUR = (ONE, "convnet:width=16:depth=2:norm=layer", "convnet:width=16:depth=2:pool=max", "mlp")
SIXTEEN = (
    *FOUR,
    "convnet:width=16:depth=1",
    "convnet:width=16:depth=3",
    "convnet:width=32:depth=2",
    "convnet:width=32:depth=1",
    "convnet:width=16:depth=2:norm=group",
    "convnet:width=16:depth=2:act=leakyrelu",
    "convnet:width=16:depth=2:act=swish",
    "convnet:width=16:depth=2:pool=none",
    "convnet:width=16:depth=1:norm=none",
    "convnet:width=16:depth=1:pool=max",
    "convnet:width=16:depth=1:act=swish",
    "convnet:width=8:depth=2",
)
POOLS = {"one": (ONE,), "four": FOUR, "sixteen": SIXTEEN}


def read_options() -> Namespace:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/pool-coverage"))
    parser.add_argument("--pools", nargs="+", default=list(POOLS), choices=POOLS)
    parser.add_argument("--ipc", type=int, nargs="+", default=[1, 3, 10])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=200)
    parser.add_argument("--batch-real", type=int, default=256, help="real images per class")
    parser.add_argument("--num-eval", type=int, default=2, help="networks per configuration")
    parser.add_argument("--epochs", type=int, default=100, help="epochs on a set")
    parser.add_argument("--real-epochs", type=int, default=40, help="epochs on all real images")
    parser.add_argument("--processes", type=int, default=1)
    return parser.parse_args()


def measure(data: RealData, name: str, ipc: int, seed: int, options: Namespace) -> Path:
    """Distils one set and evaluates it, unless that is done, and returns its table."""
    folder = options.out / f"{name}-ipc{ipc}-seed{seed}"
    table = folder / "accuracies.csv"
    if table.is_file():
        return table
    quick = {"eval_every": options.iterations, "num_eval": 1, "epoch_eval_train": options.epochs}
    synthetic = distill(
        *("dm", data),
        **{"ipc": ipc, "seed": seed, "network": list(POOLS[name])},
        **{"iterations": options.iterations, "batch_real": options.batch_real},
        **{"lam": 0.0, **quick},
        **{"out": folder / "set", "resume": True, "progress": False},
    )
    # Only one set is evaluated beside networks on all real images, which serve all of them.
    first = (name, ipc, seed) == (options.pools[0], options.ipc[0], 0)
    part = folder / "part"
    shutil.rmtree(part, ignore_errors=True)
    evaluate_set(
        {f"{name}-{seed}": synthetic},
        data,
        **{"networks": list(SIXTEEN), "num_eval": options.num_eval},
        **{"epoch_eval_train": options.epochs, "seed": seed, "out": part},
        **{"real_epochs": options.real_epochs if first else None},
        **{"workers": options.processes, "progress": False},
    )
    (part / "accuracies.csv").rename(table)  # which is there only once it is whole
    return table


def main() -> None:
    options = read_options()
    data = load_data(options.dataset, options.data_dir)
    tables = []
    for seed in range(options.seeds):
        for ipc in options.ipc:
            for name in options.pools:
                tables.append(measure(data, name, ipc, seed, options))
                print(tables[-1], flush=True)
    whole = options.out / "accuracies.csv"
    with whole.open("w", newline="") as file:
        rows = [row for table in tables for row in csv.DictReader(table.open(newline=""))]
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    laws = options.out / "laws"
    shutil.rmtree(laws, ignore_errors=True)
    sdc_ext(["theory", "coverage", str(whole), "--out", str(laws)])


if __name__ == "__main__":
    main()

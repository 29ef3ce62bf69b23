"""Which surrogate ranks sets as the accuracy does: 24 small sets of the digits.

Makes sets of 1 and of 10 images per class by selection and by a few iterations of DC, DM and MTT,
and prints the rank correlations. Sets that are there already are kept::

    python benchmarks/surrogates.py --out runs/surrogates-digits
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from sdc_ext import distill, select_set, surrogates_of
from sdc_ext.data import RealData, load_data

NETWORK = "convnet:width=32:depth=2"
QUICK: dict[str, Any] = {
    **{"network": NETWORK, "lam": 0.0, "num_eval": 1, "epoch_eval_train": 1},
    **{"resume": True, "progress": False},
}
METHODS: dict[str, dict[str, Any]] = {
    "dc": {"iterations": 50, "outer_loop": 1},
    "dm": {"iterations": 200},
    "mtt": {"iterations": 100, "syn_steps": 10, "expert_epochs": 2, "max_start_epoch": 8},
}
SELECTIONS = {"random": 3, "herding": 1, "k-center": 1, "forgetting": 1}


def make_sets(data: RealData, options: Namespace) -> list[Path]:
    """Makes the sets that are missing, and returns the folders of all of them."""
    folders = []
    for ipc in options.ipc:
        for name, seeds in SELECTIONS.items():
            for seed in range(seeds):
                out = options.out / f"{name}-ipc{ipc}-{seed}"
                folders.append(out)
                if not out.exists():
                    shown = {"out": out, "progress": False}
                    select_set(name, data, ipc=ipc, seed=seed, network=NETWORK, **shown)
        for name, settings in METHODS.items():
            for seed in range(options.seeds):
                out = options.out / f"{name}-ipc{ipc}-{seed}"
                folders.append(out)
                chosen = QUICK | settings | {"eval_every": settings["iterations"]}
                distill(name, data, ipc=ipc, seed=seed, out=out, **chosen)
    return folders


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/surrogates-digits"))
    parser.add_argument("--ipc", type=int, nargs="+", default=[1, 10])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--num-eval", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    data = load_data(options.dataset, options.data_dir)
    folders = make_sets(data, options)
    measured = surrogates_of(
        {folder.name: folder for folder in folders},
        data,
        **{"network": NETWORK, "num_eval": options.num_eval, "epoch_eval_train": options.epochs},
        **{"workers": options.processes, "progress": False, "lr": 0.01},
    )
    measured.save(options.out / "measured")
    print(measured)


if __name__ == "__main__":
    main()

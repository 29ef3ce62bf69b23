"""``sdc-ext difficulty``: how hard real and distilled samples are for networks (Figure 3)."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path

import torch
from accelerate import Accelerator
from rich.progress import Progress
from torch import Tensor

from sdc_ext._files import write_table, write_whole
from sdc_ext._seeds import seed_torch
from sdc_ext.adapters.recipes.gradient import network_rule
from sdc_ext.cli.data import load_chosen_data
from sdc_ext.cli.folders import check_free, claim_folder
from sdc_ext.cli.options import add_settings, chosen_settings, parse_seed
from sdc_ext.cli.sets import SET_HELP, add_set_data, open_all
from sdc_ext.data.real import RealData
from sdc_ext.errors import InputError, check_positive
from sdc_ext.evaluation.difficulty import Difficulty, measure_difficulty
from sdc_ext.evaluation.selection import pick_at_random
from sdc_ext.networks.create import check_network
from sdc_ext.report.figures import draw_difficulty
from sdc_ext.report.tables import difficulty_table
from sdc_ext.training.probe import Probe
from sdc_ext.verbs.session import make_accelerator, make_console

Samples = dict[str, tuple["Tensor", "Tensor"]]


def add_options(parser: ArgumentParser) -> None:
    """Adds the options of the command to its parser."""
    parser.add_argument("sets", type=Path, nargs="*", metavar="SET", help=SET_HELP)
    add_set_data(parser)
    parser.add_argument(
        "--split", choices=("test", "train"), default="test", help="of the real images (test)"
    )
    parser.add_argument(
        "--per-class", type=int, default=100, help="real images of a class (default 100)"
    )
    parser.add_argument(
        "--num-networks", type=int, default=20, help="of the ensemble (default 20, as the paper)"
    )
    parser.add_argument(
        "--epochs", type=int, nargs="+", help="when to score (default: after the last)"
    )
    parser.add_argument("--seed", type=parse_seed, default=0, help="of all of it (default 0)")
    parser.add_argument("--out", type=Path, help="folder of the table and the picture")
    add_settings(parser.add_argument_group("the networks, trained on real images"), Probe)
    parser.set_defaults(run=_difficulty)


def _difficulty(options: Namespace) -> None:
    check_positive(options, "per_class", "num_networks")
    check_free(options.out)
    accelerator = make_accelerator()
    console = make_console(accelerator)
    samples, data, network = _samples(options, accelerator)
    probe = Probe(**{"network": network, **chosen_settings(options)})
    check_network(probe.network, *data.network_shape)
    epochs = sorted(set(options.epochs or [probe.train_epochs]))
    with Progress(console=console, disable=not accelerator.is_main_process) as progress:
        total = options.num_networks * probe.train_epochs
        bar = progress.add_task(f"training {probe.network}", total=total)
        found = measure_difficulty(
            *(samples, data, probe),
            epochs=epochs,
            networks=options.num_networks,
            seed=options.seed,
            accelerator=accelerator,
            on_epoch=lambda: progress.advance(bar, accelerator.num_processes),
        )
    out = Path()
    if accelerator.is_main_process:
        out = claim_folder(options.out, "difficulty", options.sets)
        _write(found, samples, out)
    console.print(difficulty_table(found))
    console.print(f"{options.num_networks} {probe.network}, on the training images of {data.name}")
    console.print(f"difficulty.csv and difficulty.png in {out}")


def _samples(options: Namespace, accelerator: Accelerator) -> tuple[Samples, RealData, str]:
    """What is to be scored, by name, the real data and the sets' network."""
    opened = list(open_all(options, accelerator))
    if opened:
        data = opened[0][2]
        network = opened[0][1].info.eval_network
        for name, _, other in opened:
            if other.identity != data.identity:
                raise InputError(
                    f"{name} belongs to other data than {opened[0][0]}: score it alone"
                )
    else:
        options.dataset = options.dataset or "digits"
        data = load_chosen_data(options, accelerator)
        network = network_rule(options.dataset).get("network", ("convnet", ""))[0]
    of_sets = {name: (s.images, s.labels) for name, s, _ in opened}
    return _real_images(data, options) | of_sets, data, network


def _real_images(data: RealData, options: Namespace) -> Samples:
    """Some of each class, at random."""
    split = data.test if options.split == "test" else data.train
    seed_torch(options.seed, "scored")
    by_class = (torch.nonzero(split.labels == c)[:, 0] for c in range(len(data.classes)))
    index = torch.cat([pick_at_random(of_class, options.per_class) for of_class in by_class])
    return {f"real {options.split}": (data.normalize(split.images[index]), split.labels[index])}


def _write(found: Mapping[tuple[str, int], Difficulty], samples: Samples, out: Path) -> None:
    rows = [
        {
            "samples": name,
            "index": k,
            "label": int(label if label.ndim == 0 else label.argmax()),
            "epoch": epoch,
            "misclassified": float(d.misclassified[k]),
            "gradn": float(d.gradn[k]),
            "loss": float(d.loss[k]),
        }
        for (name, epoch), d in found.items()
        for k, label in enumerate(samples[name][1])
    ]
    write_table(rows, out / "difficulty.csv")
    last = max(epoch for _, epoch in found)
    of_last = {name: d for (name, epoch), d in found.items() if epoch == last}
    write_whole(out / "difficulty.png", lambda path: draw_difficulty(of_last, path))

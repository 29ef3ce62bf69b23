"""``sdc-ext evaluate``, ``show`` and ``export``: what to do with a distilled set."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from sdc_ext.cli.common import (
    add_data,
    load_chosen_data,
    make_accelerator,
    make_console,
    parse_seed,
)
from sdc_ext.errors import InputError, check_positive


def add_evaluate(commands: Any) -> None:
    parser = commands.add_parser("evaluate", help="train networks on a distilled set and test them")
    parser.add_argument("set", type=Path, metavar="FOLDER", help="a distilled set, or res_*.pt")
    add_data(parser, None, "the set's own")
    parser.add_argument("--networks", help="comma-separated (default: the set's own)")
    parser.add_argument("--num-eval", type=int, default=5, help="networks of each (default 5)")
    parser.add_argument("--epoch-eval-train", type=int, help="epochs (default: the set's own)")
    parser.add_argument("--seed", type=parse_seed, default=0, help="of the networks (default 0)")
    parser.set_defaults(run=_evaluate)


def _evaluate(options: Namespace) -> None:
    from dataclasses import replace

    from sdc_ext.evaluate import evaluate
    from sdc_ext.networks import check_network
    from sdc_ext.originals import load_any
    from sdc_ext.report import evaluation_table

    check_positive(options, "num_eval")
    synthetic = load_any(options.set)
    info = synthetic.info
    recipe = info.evaluation
    if options.epoch_eval_train is not None:
        check_positive(options, "epoch_eval_train")
        recipe = replace(recipe, epochs=options.epoch_eval_train)
    accelerator = make_accelerator("no", None, options.set)
    console = make_console(accelerator)
    options.dataset = options.dataset or info.dataset
    if options.dataset == "imagefolder" and options.image_size is None:
        options.image_size = tuple(synthetic.images.shape[2:])
    data = synthetic.adopt(load_chosen_data(options, accelerator))
    named = info.eval_network if options.networks is None else options.networks
    networks = [name.strip() for name in named.split(",")]
    for network in networks:
        check_network(network, data.channels, len(data.classes), data.image_size)
    evaluations = []
    for network in networks:
        with console.status(f"training {options.num_eval} {network}"):
            evaluations.append(
                evaluate(
                    synthetic.images,
                    synthetic.labels,
                    data,
                    recipe,
                    network=network,
                    num_eval=options.num_eval,
                    seed=options.seed,
                    accelerator=accelerator,
                )
            )
    console.print(evaluation_table(str(options.set), evaluations))


def add_show(commands: Any) -> None:
    parser = commands.add_parser("show", help="draw a distilled set and print what is known of it")
    parser.add_argument("set", type=Path, metavar="FOLDER", help="a distilled set, or res_*.pt")
    parser.add_argument("--out", type=Path, help="the picture (default: grid.png in the folder)")
    parser.set_defaults(run=_show)


def _show(options: Namespace) -> None:
    from rich.console import Console

    from sdc_ext.adapters import METHODS
    from sdc_ext.files import write_whole
    from sdc_ext.originals import load_any
    from sdc_ext.pictures import draw_curves, draw_grid
    from sdc_ext.record import read_history
    from sdc_ext.report import summary
    from sdc_ext.synthetic import GRID

    if options.out is not None and options.out.suffix not in (".png", ".pdf", ".svg"):
        raise InputError(f"cannot draw {options.out}: name a .png, .pdf or .svg file")
    synthetic = load_any(options.set)
    method = METHODS.get(synthetic.info.method)
    own = options.set / GRID if options.set.is_dir() else options.set.with_suffix(".png")
    grid = options.out or own
    write_whole(grid, lambda path: draw_grid(synthetic, path))
    console = Console(highlight=False, soft_wrap=True)
    console.print(summary(synthetic, "last" if method is None else method.counts))
    console.print(f"picture: {grid}")
    history = read_history(options.set)
    if history:
        curves = grid.with_name(f"{grid.stem}-curves.png")
        write_whole(curves, lambda path: draw_curves(history, path))
        console.print(f"curves: {curves}")


def add_export(commands: Any) -> None:
    parser = commands.add_parser("export", help="write a distilled set in the originals' format")
    parser.add_argument("set", type=Path, metavar="FOLDER", help="a distilled set")
    parser.add_argument(
        "file", type=Path, nargs="?", help="default: the originals' name, res_METHOD_..._IPCipc.pt"
    )
    parser.set_defaults(run=_export)


def _export(options: Namespace) -> None:
    from sdc_ext.originals import load_any, original_name, write_res

    synthetic = load_any(options.set)
    file = options.file or Path(original_name(synthetic.info))
    if file.exists():
        raise InputError(f"{file} exists: name another file")
    write_res([synthetic], file)
    print(file)

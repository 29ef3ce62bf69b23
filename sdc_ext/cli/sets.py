"""``sdc-ext evaluate``, ``show`` and ``export``: what to do with a distilled set."""

from __future__ import annotations

import functools
import itertools
import json
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from sdc_ext.cli.common import (
    add_data,
    load_chosen_data,
    make_accelerator,
    make_console,
    parse_seed,
)
from sdc_ext.errors import InputError, check_positive
from sdc_ext.files import write_table, write_whole

if TYPE_CHECKING:
    from accelerate import Accelerator

    from sdc_ext.data import RealData
    from sdc_ext.results import Result
    from sdc_ext.synthetic import SyntheticSet, TrainingRecipe

SET_HELP = "a folder that sdc-ext wrote, res_*.pt, images_*.pt, or a folder of pictures"


def add_set_data(parser: ArgumentParser) -> None:
    """Options for the real data of a set, and for what strangers' files do not say."""
    add_data(parser, None, "the set's own")
    parser.add_argument("--lr-eval", type=float, help="learning rate (default: the set's own)")
    parser.add_argument(
        "--zca",
        action="store_true",
        help="images_*.pt are ZCA-whitened, though no images_zca_*.pt beside them says so",
    )


def add_evaluate(commands: Any) -> None:
    parser = commands.add_parser("evaluate", help="train networks on distilled sets and test them")
    parser.add_argument("sets", type=Path, nargs="+", metavar="SET", help=SET_HELP)
    add_set_data(parser)
    parser.add_argument(
        "--networks", help="comma-separated, ours or timm's (default: the set's own)"
    )
    parser.add_argument("--num-eval", type=int, default=5, help="networks of each (default 5)")
    parser.add_argument("--epoch-eval-train", type=int, help="epochs (default: the set's own)")
    parser.add_argument("--seed", type=parse_seed, default=0, help="of the networks (default 0)")
    parser.add_argument(
        "--mixed-precision", choices=("no", "bf16"), default="no", help="of the networks"
    )
    parser.add_argument("--compile", action="store_true", help="compile (needs a C++ compiler)")
    parser.add_argument("--out", type=Path, help="folder of the table and the chart")
    parser.set_defaults(run=_evaluate)


@dataclass(frozen=True)
class _Job:
    """One set to be evaluated on one architecture."""

    name: str
    synthetic: SyntheticSet
    data: RealData
    network: str
    recipe: TrainingRecipe


def _evaluate(options: Namespace) -> None:
    from rich.progress import Progress

    from sdc_ext.evaluate import evaluate
    from sdc_ext.results import Result
    from sdc_ext.tables import cross_table

    check_positive(options, "num_eval")
    if options.out is not None and options.out.exists():
        raise InputError(f"{options.out} exists: choose another --out")
    accelerator = make_accelerator(options.mixed_precision, None, Path())
    console = make_console(accelerator)
    jobs = list(_jobs(options, accelerator))
    out = claim_folder(options, "evaluation") if accelerator.is_main_process else Path()
    results: list[Result] = []
    with Progress(console=console, disable=not accelerator.is_main_process) as progress:
        bar = progress.add_task("", total=len(jobs) * options.num_eval)
        for job in jobs:
            progress.update(bar, description=f"{job.name}: {job.network}")
            evaluation = evaluate(
                job.synthetic.images,
                job.synthetic.labels,
                job.data,
                job.recipe,
                network=job.network,
                num_eval=options.num_eval,
                seed=options.seed,
                accelerator=accelerator,
                compile=options.compile,
                on_network=lambda: progress.advance(bar, accelerator.num_processes),
            )
            results.append(Result(job.name, job.synthetic, job.recipe, options.seed, evaluation))
            if accelerator.is_main_process:
                _write_results(results, out)  # hours of work are not lost to an interruption
    console.print(cross_table(results))
    console.print(f"accuracies.csv, accuracies.json and accuracies.png in {out}")


def _jobs(options: Namespace, accelerator: Accelerator) -> Iterator[_Job]:
    """Everything to evaluate, checked."""
    from sdc_ext.networks import check_network

    for name, synthetic, data in open_all(options, accelerator):
        named = options.networks or synthetic.info.eval_network
        for network in dict.fromkeys(spec.strip() for spec in named.split(",")):
            check_network(network, data.channels, len(data.classes), data.image_size)
            recipe = _recipe(synthetic.info.evaluation, options)
            yield _Job(name, synthetic, data, network, recipe)


def _recipe(own: TrainingRecipe, options: Namespace) -> TrainingRecipe:
    """How to train, where the user says otherwise than the set."""
    for name, field in (("epoch_eval_train", "epochs"), ("lr_eval", "lr")):
        if getattr(options, name) is not None:
            check_positive(options, name)
            own = replace(own, **{field: getattr(options, name)})
    return own


def claim_folder(options: Namespace, name: str) -> Path:
    """Makes the folder of results of this name: in our set's, or in ``runs``, one that is free."""
    from sdc_ext.exchange import kind_of

    if options.out is not None:
        options.out.mkdir(parents=True)
        return Path(options.out)
    only = options.sets[0] if len(options.sets) == 1 else None
    parent = only if only is not None and kind_of(only) == "set" else Path("runs")
    for free in itertools.chain([name], (f"{name}-{k}" for k in itertools.count(2))):
        try:
            (parent / free).mkdir(parents=True)
            return parent / free
        except FileExistsError:
            continue
    raise AssertionError("names never end")


def _write_results(results: Sequence[Result], out: Path) -> None:
    from sdc_ext.pictures import draw_accuracies
    from sdc_ext.results import as_json, as_rows

    text = json.dumps(as_json(results), indent=1)
    write_table(as_rows(results), out / "accuracies.csv")
    write_whole(out / "accuracies.json", lambda path: path.write_text(text))
    write_whole(out / "accuracies.png", lambda path: draw_accuracies(results, path))


Load: TypeAlias = "Callable[[str, tuple[int, int] | None], RealData]"


def _load(
    options: Namespace, accelerator: Accelerator, dataset: str, size: tuple[int, int] | None
) -> RealData:
    chosen = Namespace(**{**vars(options), "dataset": dataset, "image_size": size})
    return load_chosen_data(chosen, accelerator)


def _open(path: Path, options: Namespace, load: Load) -> SyntheticSet:
    """A set, with the real data of those formats that need them."""
    from sdc_ext.exchange import kind_of, load_any, told_dataset

    dataset = options.dataset or told_dataset(path)
    if kind_of(path) not in ("best", "pictures") or dataset is None:
        return load_any(path)  # which says so if the data set is missing
    data = load(dataset, options.image_size)
    return load_any(path, data, zca=options.zca, lr=options.lr_eval)


def open_with_data(
    path: Path, options: Namespace, accelerator: Accelerator, load: Load | None = None
) -> tuple[SyntheticSet, RealData]:
    """A set and the real data, normalised as it is."""
    load = load or functools.partial(_load, options, accelerator)
    synthetic = _open(path, options, load)
    dataset = options.dataset or synthetic.info.dataset
    size = options.image_size
    if size is None and dataset in ("imagefolder", "tinyimagenet"):
        height, width = synthetic.images.shape[2:]
        size = height, width
    return synthetic, synthetic.adopt(load(dataset, size))


def open_all(
    options: Namespace, accelerator: Accelerator
) -> Iterator[tuple[str, SyntheticSet, RealData]]:
    """Each of ``options.sets`` once, with a short name; data that several share are loaded once."""
    from sdc_ext.results import short_names

    load = functools.cache(functools.partial(_load, options, accelerator))
    sets = list({path.resolve(): path for path in options.sets}.values())
    for name, path in zip(short_names(sets), sets, strict=True):
        yield name, *open_with_data(path, options, accelerator, load)


def add_show(commands: Any) -> None:
    parser = commands.add_parser("show", help="draw a distilled set and print what is known of it")
    parser.add_argument("set", type=Path, metavar="SET", help=SET_HELP)
    add_set_data(parser)
    parser.add_argument("--out", type=Path, help="the picture (default: grid.png in the folder)")
    parser.set_defaults(run=_show)


def _show(options: Namespace) -> None:
    from rich.console import Console

    from sdc_ext.adapters import METHODS
    from sdc_ext.pictures import draw_curves, draw_grid
    from sdc_ext.record import read_history
    from sdc_ext.synthetic import GRID
    from sdc_ext.tables import summary

    if options.out is not None and options.out.suffix not in (".png", ".pdf", ".svg"):
        raise InputError(f"cannot draw {options.out}: name a .png, .pdf or .svg file")
    accelerator = make_accelerator("no", None, Path())
    synthetic = _open(options.set, options, functools.partial(_load, options, accelerator))
    if not accelerator.is_main_process:
        return
    method = METHODS.get(synthetic.info.method)
    own = options.set / GRID if options.set.is_dir() else options.set.with_suffix(".png")
    grid = options.out or own
    write_whole(grid, lambda path: draw_grid(synthetic, path))
    console = Console(highlight=False, soft_wrap=True)
    history = read_history(options.set)
    console.print(summary(synthetic, "last" if method is None else method.counts, history))
    console.print(f"picture: {grid}")
    if history:
        curves = grid.with_name(f"{grid.stem}-curves.png")
        write_whole(curves, lambda path: draw_curves(history, path))
        console.print(f"curves: {curves}")


def add_export(commands: Any) -> None:
    parser = commands.add_parser("export", help="write a distilled set in somebody else's format")
    parser.add_argument("set", type=Path, metavar="SET", help=SET_HELP)
    add_set_data(parser)
    parser.add_argument(
        "to", type=Path, nargs="?", help="file or folder (default: named as the originals would)"
    )
    parser.add_argument(
        "--format",
        choices=("res", "best", "pictures", "dd-ranking"),
        default="res",
        help="res_*.pt of DC (default); images_best.pt and its like of MTT, TESLA and DATM; a "
        "folder of pictures with a data-set card; or DD-Ranking's tensors",
    )
    parser.set_defaults(run=_export)


def _export(options: Namespace) -> None:
    from sdc_ext.exchange import FORMATS, default_name

    accelerator = make_accelerator("no", None, Path())
    synthetic = _open(options.set, options, functools.partial(_load, options, accelerator))
    to = options.to or Path(default_name(synthetic, options.format))
    if not accelerator.is_main_process:
        return
    if to.exists():
        raise InputError(f"{to} exists: name another")
    if not to.absolute().parent.is_dir():
        raise InputError(f"there is no folder {to.parent} to write {to.name} to")
    with tempfile.TemporaryDirectory(dir=to.absolute().parent, prefix=".export-") as folder:
        FORMATS[options.format](synthetic, Path(folder) / to.name)
        (Path(folder) / to.name).rename(to)
    print(to)

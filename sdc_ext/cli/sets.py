"""Opening distilled sets, and ``sdc-ext show`` and ``export``."""

from __future__ import annotations

import functools
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from sdc_ext._files import write_whole
from sdc_ext.cli.common import (
    add_data,
    load_chosen_data,
    make_accelerator,
)
from sdc_ext.errors import InputError

if TYPE_CHECKING:
    from accelerate import Accelerator

    from sdc_ext.data.real import RealData
    from sdc_ext.sets.synthetic_set import SyntheticSet

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


Load: TypeAlias = "Callable[[str, tuple[int, int] | None], RealData]"


def _load(
    options: Namespace, accelerator: Accelerator, dataset: str, size: tuple[int, int] | None
) -> RealData:
    chosen = Namespace(**{**vars(options), "dataset": dataset, "image_size": size})
    return load_chosen_data(chosen, accelerator)


def _open(path: Path, options: Namespace, load: Load) -> SyntheticSet:
    """A set, with the real data of those formats that need them."""
    from sdc_ext.sets.loading import kind_of, load_any, told_dataset

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
    from sdc_ext.sets.loading import short_names

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
    from sdc_ext.report.figures import draw_curves
    from sdc_ext.report.tables import summary
    from sdc_ext.sets.grid import draw_grid
    from sdc_ext.sets.history import read_history
    from sdc_ext.sets.synthetic_set import GRID

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
    from sdc_ext.sets.export import FORMATS, default_name

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

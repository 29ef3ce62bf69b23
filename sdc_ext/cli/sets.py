"""Opening distilled sets, and ``sdc-ext show`` and ``export``."""

from __future__ import annotations

import functools
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from sdc_ext.cli.data import load_chosen_data
from sdc_ext.cli.options import add_data

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


def open_set(path: Path, options: Namespace, accelerator: Accelerator) -> SyntheticSet:
    """A set alone, whose real data are loaded only if its format needs them."""
    return _open(path, options, functools.partial(_load, options, accelerator))


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

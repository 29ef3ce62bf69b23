"""Opens the distilled sets that a command line names, with their real data."""

from __future__ import annotations

from argparse import ArgumentParser, BooleanOptionalAction, Namespace
from pathlib import Path

from accelerate import Accelerator

from sdc_ext.cli.options import FACTOR, RATE, add_data
from sdc_ext.data.real import RealData
from sdc_ext.sets import loading
from sdc_ext.sets.synthetic_set import SyntheticSet
from sdc_ext.verbs.opening import OpenedSet
from sdc_ext.verbs.session import open_data

SET_HELP = (
    "a folder that sdc-ext wrote, res_*.pt, images_*.pt, data*.pt, or a folder with these or with "
    "pictures"
)


def add_set_data(parser: ArgumentParser, *, trained_on: bool = True) -> None:
    """Adds options for the real data of a set, and for what files of others leave open.

    Args:
        parser: The parser of a command.
        trained_on: Whether the learning rate of training on the set matters to the command.
    """
    add_data(parser, None, "the set's own")
    if trained_on:
        parser.add_argument(
            "--lr-eval",
            dest="lr",
            type=RATE,
            help="learning rate of the training (default: the set's own)",
        )
    parser.add_argument(
        "--zca",
        action=BooleanOptionalAction,
        help="read images whose files do not say so as ZCA-whitened, or as not whitened (default: "
        "decided by statistics)",
    )
    parser.add_argument(
        "--factor",
        type=FACTOR,
        help="number of parts per side of a stored image of IDC, DREAM or NCFM (default: that of "
        "the path, or decided by statistics)",
    )


def open_named_set(path: Path, options: Namespace, accelerator: Accelerator) -> SyntheticSet:
    """A set alone, whose real data are loaded only if its format needs them."""
    return loading.open_set(path, loader(options, accelerator), opening(options))


def open_named_with_data(
    path: Path, options: Namespace, accelerator: Accelerator
) -> tuple[SyntheticSet, RealData]:
    """A set and the real data, normalised as it is."""
    return loading.open_with_data(path, loader(options, accelerator), opening(options))


def open_named_sets(options: Namespace, accelerator: Accelerator) -> list[OpenedSet]:
    """Each of ``options.sets`` once, with a short name; data that several share are loaded once."""
    found = loading.open_all(options.sets, loader(options, accelerator), opening(options))
    return [OpenedSet(*one) for one in found]


def loader(options: Namespace, accelerator: Accelerator) -> loading.Load:
    """What loads the real data that a command line describes."""

    def load(dataset: str, size: tuple[int, int] | None) -> RealData:
        return open_data(
            dataset,
            accelerator,
            data_dir=options.data_dir,
            image_size=size,
            background=options.background,
            download=options.download,
        )

    return load


def opening(options: Namespace) -> loading.Opening:
    """What a command line says about its sets."""
    return loading.Opening(
        options.zca,
        getattr(options, "lr", None),
        options.factor,
        trained_on=hasattr(options, "lr"),
        dataset=options.data,
        image_size=options.image_size,
    )

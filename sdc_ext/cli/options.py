"""Options that commands share, and the reading of their values."""

from __future__ import annotations

from argparse import (
    SUPPRESS,
    Action,
    ArgumentParser,
    BooleanOptionalAction,
    Namespace,
)
from collections.abc import Iterator, Sequence
from dataclasses import Field, fields
from pathlib import Path
from typing import Any, get_type_hints

from sdc_ext._kinds import Flag, Kind, OneOf, Several
from sdc_ext._values import Count, Factor, Names, Processes, Ramp, Rate, Seed, Size, Weight, kind_of
from sdc_ext.errors import InputError

INTERRUPTED = 130  # exit status after Ctrl-C

# The kinds of values of options that commands share.
COUNT, RATE, WEIGHT, SEED = (kind_of(value) for value in (Count, Rate, Weight, Seed))
FACTOR = kind_of(Factor)
PLACE, TEXT, NAMES, SIZE = (kind_of(value) for value in (Path, str, Names, Size))
RAMP = kind_of(Ramp)


def check_picture(path: Path) -> None:
    """Raises InputError unless a picture can be drawn into a file of this name."""
    if path.suffix not in (".png", ".pdf", ".svg"):
        raise InputError(f"cannot draw {path}: name a .png, .pdf or .svg file")


def add_data(group: Any, default: str | None, default_help: str) -> None:
    """Adds the options that name real data, and how they are read, to a parser or a group."""
    add_data_source(group, default, default_help)
    add_data_reading(group)


def add_data_source(group: Any, default: str | None, default_help: str) -> None:
    """Adds the options that name real data."""
    group.add_argument(
        "--dataset",
        dest="data",  # as the verbs call it, for messages
        type=TEXT,
        default=default,
        metavar="DATA",
        help=f"data set, or a folder with one folder per class (default: {default_help})",
    )
    group.add_argument("--data-dir", type=PLACE, metavar="FOLDER", help="folder of the data set")


def add_data_reading(group: Any) -> None:
    """Adds the options for how real data are read."""
    group.add_argument(
        "--image-size",
        type=SIZE,
        metavar="SIZE",
        help="size to which the images of a folder are resized, e.g. 32 or 32x48",
    )
    group.add_argument(
        "--background",
        type=TEXT,
        default="white",
        metavar="COLOUR",
        help="colour behind transparent pixels of pictures, e.g. black or #808080 (default: white)",
    )
    group.add_argument(
        "--download", action="store_true", help="let torchvision download the data set"
    )


def add_computing(group: Any, what: str) -> Action:
    """Adds the options for how ``what`` is computed, and returns the one that compiles it."""
    group.add_argument(
        "--mixed-precision",
        choices=("no", "bf16"),
        default="no",
        help=f"precision of {what} (default: no, float32)",
    )
    compiling: Action = group.add_argument(
        "--compile", action="store_true", help=f"compile {what} (needs a C++ compiler)"
    )
    return compiling


def add_workers(parser: ArgumentParser, what: str) -> None:
    """Adds the options for who computes ``what`` side by side."""
    group = parser.add_argument_group("side by side").add_mutually_exclusive_group()
    group.add_argument(
        "--processes",
        dest="workers",
        type=kind_of(Processes),
        metavar="N",
        default=1,
        help=f"number of processes, of one thread each, that share the {what} (default: 1, with "
        "all threads)",
    )
    group.add_argument(
        "--executor",
        dest="workers",
        type=TEXT,
        metavar="WHERE",
        help="where to compute them instead: dask:ADDRESS, or submitit:NAME=VALUE,... (Slurm)",
    )


def add_seed(group: Any) -> None:
    """Adds the option for the seed."""
    group.add_argument(
        "--seed",
        type=SEED,
        metavar="N",
        default=0,
        help="seed of all random numbers (default: 0)",
    )


class StoreSeveral(Action):
    """Stores an option that takes one word for each place of a kind.

    Args:
        option_strings: The option's names.
        dest: The name of the value.
        kind: The kind of the value.
        **options: Further arguments of argparse's actions.
    """

    def __init__(
        self, option_strings: Sequence[str], dest: str, kind: Several, **options: Any
    ) -> None:
        super().__init__(option_strings, dest, nargs=len(kind.each), metavar=kind.places, **options)
        self._kind = kind

    def __call__(
        self, parser: ArgumentParser, namespace: Namespace, values: Any, flag: str | None = None
    ) -> None:
        """Reads the words; a refusal names the place of the one that is wrong."""
        del parser
        setattr(namespace, self.dest, self._kind.read(str(flag), ",".join(values)))


def add_settings(group: Any, cls: type[Any]) -> None:
    """Adds an option for each field of a dataclass of settings."""
    types = get_type_hints(cls, include_extras=True)
    for setting in fields(cls):
        add_setting(group, setting, types[setting.name])


def add_setting(group: Any, setting: Field[Any], annotation: Any) -> Action:
    """Adds an option for a field of a dataclass of settings, and returns it."""
    options: dict[str, Any] = {"default": SUPPRESS, "help": setting.metadata["help"]}
    kind = kind_of(annotation)
    if isinstance(kind, Flag):
        options["action"] = BooleanOptionalAction
    elif isinstance(kind, OneOf):
        options["choices"] = kind.choices
    elif isinstance(kind, Several):
        options |= {"action": StoreSeveral, "kind": kind}
    else:
        options |= {"type": kind, "metavar": kind.placeholder}
    flag = "--" + setting.name.replace("_", "-")
    added: Action = group.add_argument(flag, dest=f"set_{setting.name}", **options)
    return added


def chosen_settings(options: Namespace) -> dict[str, Any]:
    """What the user has set of the options that ``add_settings`` added."""
    return {
        name.removeprefix("set_"): value
        for name, value in vars(options).items()
        if name.startswith("set_")
    }


def fill_placeholders(parser: ArgumentParser) -> None:
    """Gives every option that takes a value and names none the placeholder of its type."""
    for action in all_actions(parser):
        takes_value = bool(action.option_strings) and action.nargs != 0 and action.choices is None
        if takes_value and action.metavar is None:
            kind = action.type
            action.metavar = kind.placeholder if isinstance(kind, Kind) else "NAME"


def take_folder(options: Namespace) -> None:
    """Takes a folder that ``--dataset`` names for ``imagefolder`` in it, as ``load_data`` does.

    Raises:
        InputError: If there is neither a data set nor a folder of this name, or ``--data-dir``
            names a folder, too.
    """
    name = getattr(options, "data", None)
    if name is None:
        return
    from sdc_ext.data.load import DATASETS, check_source

    check_source(name)
    if name in DATASETS:
        return
    if getattr(options, "data_dir", None) is not None:
        raise InputError(f"`data` {name} is a folder already: leave `data_dir` out")
    options.data, options.data_dir = "imagefolder", Path(name)


def all_actions(parser: ArgumentParser) -> Iterator[Action]:
    """The options of a parser and of the commands below it."""
    for action in parser._actions:
        yield action
        if isinstance(action.choices, dict):
            for command in action.choices.values():
                yield from all_actions(command)

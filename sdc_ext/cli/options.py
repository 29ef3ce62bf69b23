"""Options that commands share, and the reading of their values."""

from __future__ import annotations

from argparse import (
    SUPPRESS,
    Action,
    ArgumentParser,
    ArgumentTypeError,
    BooleanOptionalAction,
    Namespace,
)
from collections.abc import Iterator, Sequence
from dataclasses import Field, fields
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from sdc_ext.errors import InputError

INTERRUPTED = 130  # exit status after Ctrl-C

# What help prints for the value of an option.
_PLACEHOLDERS: dict[Any, str] = {int: "N", float: "X", str: "NAME", Path: "PATH"}


def add_data(group: Any, default: str | None, default_help: str) -> None:
    """Adds the options that name real data, and how they are read, to a parser or a group."""
    add_data_source(group, default, default_help)
    add_data_reading(group)


def add_data_source(group: Any, default: str | None, default_help: str) -> None:
    """Adds the options that name real data."""
    group.add_argument(
        "--dataset",
        default=default,
        metavar="DATA",
        help=f"data set, or a folder with one folder per class (default: {default_help})",
    )
    group.add_argument("--data-dir", type=Path, metavar="FOLDER", help="folder of the data set")


def add_data_reading(group: Any) -> None:
    """Adds the options for how real data are read."""
    group.add_argument(
        "--image-size",
        type=parse_image_size,
        metavar="SIZE",
        help="size to which the images of a folder are resized, e.g. 32 or 32x48",
    )
    group.add_argument(
        "--background",
        default="white",
        metavar="COLOUR",
        help="colour behind transparent pixels of pictures, e.g. black or #808080 (default: white)",
    )
    group.add_argument(
        "--download", action="store_true", help="let torchvision download the data set"
    )


def add_computing(group: Any, what: str) -> None:
    """Adds the options for how ``what`` is computed."""
    group.add_argument(
        "--mixed-precision",
        choices=("no", "bf16"),
        default="no",
        help=f"precision of {what} (default: no, float32)",
    )
    group.add_argument(
        "--compile", action="store_true", help="compile the same parts (needs a C++ compiler)"
    )


def add_seed(group: Any) -> None:
    """Adds the option for the seed."""
    group.add_argument(
        "--seed",
        type=parse_seed,
        metavar="N",
        default=0,
        help="seed of all random numbers (default: 0)",
    )


def parse_seed(text: str) -> int:
    """Reads a seed."""
    if not text.isdigit():
        raise ArgumentTypeError(f"{text!r} is no seed: write a whole number, 0 or above")
    return int(text)


def parse_image_size(text: str) -> tuple[int, int]:
    """Reads a size as (height, width)."""
    sides = text.split("x")
    if len(sides) in (1, 2) and all(side.isdigit() and int(side) > 0 for side in sides):
        return int(sides[0]), int(sides[-1])
    raise ArgumentTypeError(f"{text!r} is no size: write pixels as 32 or HEIGHTxWIDTH, e.g. 32x48")


def whole_ramp(ramp: Sequence[float]) -> tuple[float, float, int]:
    """What ``--lam-ramp START END ITERATIONS`` was given.

    Raises:
        InputError: if the iterations are no whole number.
    """
    start, end, steps = ramp
    if not float(steps).is_integer():
        raise InputError(f"--lam-ramp needs a whole number of iterations, got {steps:g}")
    return start, end, int(steps)


def add_settings(group: Any, cls: type[Any]) -> None:
    """Adds an option for each field of a dataclass of settings."""
    types = get_type_hints(cls)
    for setting in fields(cls):
        add_setting(group, setting, types[setting.name])


def add_setting(group: Any, setting: Field[Any], kind: Any) -> Action:
    """Adds an option for a field of a dataclass of settings, and returns it."""
    options: dict[str, Any] = {"default": SUPPRESS, "help": setting.metadata["help"]}
    if NoneType in get_args(kind):
        (kind,) = (inner for inner in get_args(kind) if inner is not NoneType)
    if kind is bool:
        options["action"] = BooleanOptionalAction
    elif get_origin(kind) is Literal:
        options["choices"] = get_args(kind)
    elif setting.name == "lam_ramp":
        options |= {"nargs": 3, "type": float, "metavar": ("START", "END", "ITERATIONS")}
    else:
        options |= {"type": kind, "metavar": _PLACEHOLDERS[kind]}
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


def listed(text: str) -> list[str]:
    """What a comma-separated option names, each once, in order."""
    return list(dict.fromkeys(name.strip() for name in text.split(",")))


def fill_placeholders(parser: ArgumentParser) -> None:
    """Gives every option that takes a value and names none the placeholder of its type."""
    for action in all_actions(parser):
        takes_value = bool(action.option_strings) and action.nargs != 0 and action.choices is None
        if takes_value and action.metavar is None:
            action.metavar = _PLACEHOLDERS.get(action.type, "NAME")


def take_folder(options: Namespace) -> None:
    """Takes a folder that ``--dataset`` names for ``imagefolder`` in it, as ``load_data`` does.

    Raises:
        InputError: If ``--data-dir`` names a folder, too.
    """
    name = getattr(options, "dataset", None)
    if name is None or not hasattr(options, "data_dir") or not Path(name).is_dir():
        return
    from sdc_ext.data.load import DATASETS

    if name in DATASETS:
        return
    if options.data_dir is not None:
        raise InputError(f"`dataset` {name} is a folder already: leave `data_dir` out")
    options.dataset, options.data_dir = "imagefolder", Path(name)


def all_actions(parser: ArgumentParser) -> Iterator[Action]:
    """The options of a parser and of the commands below it."""
    for action in parser._actions:
        yield action
        if isinstance(action.choices, dict):
            for command in action.choices.values():
                yield from all_actions(command)

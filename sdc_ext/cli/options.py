"""Options that commands share, and how their texts are read."""

from __future__ import annotations

from argparse import SUPPRESS, ArgumentParser, ArgumentTypeError, BooleanOptionalAction, Namespace
from collections.abc import Container, Sequence
from dataclasses import Field, fields
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from sdc_ext.errors import InputError

INTERRUPTED = 130  # exit status after Ctrl-C


def add_data(parser: ArgumentParser, default: str | None, default_help: str) -> None:
    parser.add_argument("--dataset", default=default, help=f"data set (default: {default_help})")
    parser.add_argument("--data-dir", type=Path, help="folder of the data set")
    parser.add_argument(
        "--image-size", type=parse_image_size, help="resize a folder's images, e.g. 32x48"
    )
    parser.add_argument("--download", action="store_true", help="let torchvision download the data")


def parse_seed(text: str) -> int:
    if not text.isdigit():
        raise ArgumentTypeError(f"{text!r} is no seed: write a whole number, 0 or above")
    return int(text)


def parse_image_size(text: str) -> tuple[int, int]:
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


def add_settings(group: Any, cls: type[Any], known: Container[str] = ()) -> None:
    """Adds an option for each field of a dataclass of settings, but those known already."""
    types = get_type_hints(cls)
    for setting in fields(cls):
        if setting.name not in known:
            _add_setting(group, setting, types[setting.name])


def _add_setting(group: Any, setting: Field[Any], kind: Any) -> None:
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
        options |= {"type": kind, "metavar": kind.__name__.upper()}
    group.add_argument("--" + setting.name.replace("_", "-"), dest=f"set_{setting.name}", **options)


def chosen_settings(options: Namespace) -> dict[str, Any]:
    """What the user has set of the options that ``add_settings`` added."""
    return {name[4:]: value for name, value in vars(options).items() if name.startswith("set_")}


def listed(text: str) -> list[str]:
    """What a comma-separated option names, each once, in order."""
    return list(dict.fromkeys(name.strip() for name in text.split(",")))

"""What the commands share: options, data, devices and the console."""

from __future__ import annotations

import itertools
from argparse import SUPPRESS, ArgumentParser, ArgumentTypeError, BooleanOptionalAction, Namespace
from collections.abc import Container, Sequence
from dataclasses import Field, fields
from datetime import timedelta
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from sdc_ext.errors import InputError

if TYPE_CHECKING:
    from accelerate import Accelerator
    from rich.console import Console

    from sdc_ext.adapters.run_settings import RunSettings
    from sdc_ext.data.real import RealData


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
    """What the user has set of the options that :func:`add_settings` added."""
    return {name[4:]: value for name, value in vars(options).items() if name.startswith("set_")}


def data_label(options: Namespace) -> str:
    """The data set's name, and its folder's where the name does not say which."""
    if options.dataset == "imagefolder" and options.data_dir is not None:
        return f"imagefolder-{options.data_dir.resolve().name}"
    return str(options.dataset)


def load_chosen_data(
    options: Namespace, accelerator: Accelerator, run: RunSettings | None = None
) -> RealData:
    """The real data, normalised as ``run`` says, or as they usually are."""
    from sdc_ext.data.load import load_data

    statistics = None if run is None or run.statistics == "own" else run.statistics
    with accelerator.local_main_process_first():  # one process downloads, the others find it
        data = load_data(
            options.dataset,
            options.data_dir,
            image_size=options.image_size,
            download=options.download,
            statistics=statistics,
        )
        return data.whitened() if run is not None and run.zca else data


def make_accelerator(mixed_precision: str, tracker: str | None, out: Path) -> Accelerator:
    import torch
    from accelerate import Accelerator
    from accelerate.tracking import get_available_trackers
    from accelerate.utils import InitProcessGroupKwargs

    if tracker is not None:
        installed = [t.value for t in get_available_trackers()]
        if tracker not in installed:
            names = ", ".join(installed) or "none"
            raise InputError(
                f"tracker {tracker!r} is not installed (there is {names}): pip install it first"
            )
    try:
        return Accelerator(
            # Or several processes on a machine without an accelerator would not find each other.
            cpu=not torch.accelerator.is_available(),
            mixed_precision=mixed_precision,
            log_with=tracker,
            project_dir=out / "logs",
            # Processes wait for each other's experts and evaluations.
            kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(days=1))],
        )
    except ValueError as error:
        raise InputError(f"mixed precision {mixed_precision}: {error}") from None


def make_console(accelerator: Accelerator) -> Console:
    from rich.console import Console

    return Console(quiet=not accelerator.is_main_process, highlight=False, soft_wrap=True)


def listed(text: str) -> list[str]:
    """What a comma-separated option names, each once, in order."""
    return list(dict.fromkeys(name.strip() for name in text.split(",")))


def check_free(out: Path | None) -> None:
    """Raises InputError if the folder of results is taken."""
    if out is not None and out.exists():
        raise InputError(f"{out} exists: choose another --out")


def claim_folder(out: Path | None, name: str, sets: Sequence[Path] = ()) -> Path:
    """Makes the folder of results: ``out``, or a free one of this name in our set or ``runs``."""
    from sdc_ext.sets.loading import kind_of

    if out is not None:
        out.mkdir(parents=True)
        return out
    parent = sets[0] if len(sets) == 1 and kind_of(sets[0]) == "set" else Path("runs")
    for free in itertools.chain([name], (f"{name}-{k}" for k in itertools.count(2))):
        try:
            (parent / free).mkdir(parents=True)
            return parent / free
        except FileExistsError:
            continue
    raise AssertionError("names never end")

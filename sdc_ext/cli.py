"""The command line: ``sdc-ext distill | evaluate | show | export``."""

from __future__ import annotations

import sys
from argparse import SUPPRESS, ArgumentParser, ArgumentTypeError, BooleanOptionalAction, Namespace
from collections.abc import Sequence
from dataclasses import Field, fields
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args, get_origin, get_type_hints

from sdc_ext.errors import DivergenceError, InputError, check_positive
from sdc_ext.memory import keep_freed_memory

_BAD_INPUT = 2
_DIVERGED = 3
_INTERRUPTED = 130


class _Parser(ArgumentParser):
    """Reports bad usage as the rest of the program does: in one sentence."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see {self.prog} --help)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Returns:
        0 if it succeeded, 2 for bad input, 3 if a loss diverged, 130 if interrupted.
    """
    try:
        given = list(sys.argv[1:] if arguments is None else arguments)
        options = _parser(given).parse_args(given)
        keep_freed_memory()
        options.run(options)
    except InputError as error:
        return _report(error, _BAD_INPUT)
    except OSError as error:
        return _report(f"cannot use {error.filename}: {error.strerror}", _BAD_INPUT)
    except DivergenceError as error:
        return _report(error, _DIVERGED)
    except KeyboardInterrupt:
        return _report("interrupted; continue a distillation with --resume", _INTERRUPTED)
    return 0


def _report(problem: object, status: int) -> int:
    print("sdc-ext:", " ".join(str(problem).split()), file=sys.stderr)
    return status


def _parser(given: Sequence[str]) -> ArgumentParser:
    from sdc_ext import __version__

    parser = _Parser(prog="sdc-ext", description="Dataset distillation with SDC.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)
    _add_distill(commands, given)
    _add_evaluate(commands)
    _add_show(commands)
    _add_export(commands)
    return parser


# --- distill -------------------------------------------------------------------------------------


def _add_distill(commands: Any, given: Sequence[str]) -> None:
    parser = commands.add_parser("distill", help="distil a data set into few images")
    parser.add_argument("method", metavar="METHOD", help="dc, dsa, dcc or dsac")
    _add_data(parser, "digits", "digits")
    parser.add_argument("--ipc", type=int, default=1, help="images per class (default 1)")
    parser.add_argument("--seed", type=_seed, default=0, help="of everything random (default 0)")
    parser.add_argument("--out", type=Path, help="folder of the distilled set")
    parser.add_argument("--resume", action="store_true", help="continue the run in --out, if any")
    parser.add_argument(
        "--mixed-precision", choices=("no", "bf16"), default="no", help="of the networks"
    )
    parser.add_argument("--compile", action="store_true", help="compile it (needs a C++ compiler)")
    parser.add_argument("--tracker", help="log to it through Accelerate, e.g. tensorboard")
    if given[:1] == ["distill"]:  # other commands need not import the methods
        _add_settings(parser)
    parser.set_defaults(run=_distill)


def _add_data(parser: ArgumentParser, default: str | None, default_help: str) -> None:
    parser.add_argument("--dataset", default=default, help=f"data set (default: {default_help})")
    parser.add_argument("--data-dir", type=Path, help="folder of the data set")
    parser.add_argument(
        "--image-size", type=_image_size, help="resize a folder's images, e.g. 32x48"
    )
    parser.add_argument("--download", action="store_true", help="let torchvision download the data")


def _seed(text: str) -> int:
    if not text.isdigit():
        raise ArgumentTypeError(f"{text!r} is no seed: write a whole number, 0 or above")
    return int(text)


def _image_size(text: str) -> tuple[int, int]:
    sides = text.split("x")
    if len(sides) in (1, 2) and all(side.isdigit() and int(side) > 0 for side in sides):
        return int(sides[0]), int(sides[-1])
    raise ArgumentTypeError(f"{text!r} is no size: write pixels as 32 or HEIGHTxWIDTH, e.g. 32x48")


def _add_settings(parser: ArgumentParser) -> None:
    """One option a setting of any method, named as in the originals."""
    from sdc_ext.adapters import METHODS
    from sdc_ext.adapters.base import RunSettings

    group = parser.add_argument_group("settings, by default those of the originals and the paper")
    known: set[str] = set()
    classes: list[type[Any]] = [RunSettings, *(method.loop for method in METHODS.values())]
    for cls in classes:
        types = get_type_hints(cls)
        for setting in fields(cls):
            if setting.name not in known:
                _add_setting(group, setting, types[setting.name])
                known.add(setting.name)


def _add_setting(group: Any, setting: Field[Any], kind: Any) -> None:
    options: dict[str, Any] = {"default": SUPPRESS, "help": setting.metadata["help"]}
    if kind is bool:
        options["action"] = BooleanOptionalAction
    elif get_origin(kind) is Literal:
        options["choices"] = get_args(kind)
    elif setting.name == "lam_ramp":
        options |= {"nargs": 3, "type": float, "metavar": ("START", "END", "ITERATIONS")}
    else:
        options |= {"type": kind, "metavar": kind.__name__.upper()}
    group.add_argument("--" + setting.name.replace("_", "-"), dest=f"set_{setting.name}", **options)


def _distill(options: Namespace) -> None:
    from sdc_ext.adapters import get_method
    from sdc_ext.adapters.base import Task
    from sdc_ext.adapters.settings import resolve
    from sdc_ext.engine import Engine
    from sdc_ext.report import settings_table, summary

    method = get_method(options.method)
    overrides = {k[4:]: v for k, v in vars(options).items() if k.startswith("set_")}
    if "lam_ramp" in overrides:
        start, end, steps = overrides["lam_ramp"]
        if not steps.is_integer():
            raise InputError(f"lam_ramp needs a whole number of iterations, got {steps:g}")
        overrides["lam_ramp"] = (start, end, int(steps))
    settings = resolve(method, options.dataset, options.ipc, overrides)
    out = options.out or Path("runs") / f"{method.name}-{options.dataset}-ipc{options.ipc}"
    accelerator = _accelerator(options.mixed_precision, options.tracker, out)
    console = _console(accelerator)
    statistics = settings.run.statistics
    data = _load(options, accelerator, None if statistics == "own" else statistics)
    task = Task(data, options.ipc, settings.run.network, accelerator, options.compile)
    engine = Engine(method, settings, task, options.seed, out, console)
    engine.check_folder(options.resume)
    console.print(data.describe())
    console.print(settings_table(settings))
    synthetic = engine.distill(resume=options.resume)
    console.print(summary(synthetic, method.counts))
    console.print(f"distilled set and picture: {out}")


def _load(options: Namespace, accelerator: Any, statistics: str | None = None) -> Any:
    from sdc_ext.data import load_data

    with accelerator.local_main_process_first():  # one process downloads, the others find it
        return load_data(
            options.dataset,
            options.data_dir,
            image_size=options.image_size,
            download=options.download,
            statistics=statistics,
        )


def _accelerator(mixed_precision: str, tracker: str | None, out: Path) -> Any:
    from accelerate import Accelerator
    from accelerate.tracking import get_available_trackers

    if tracker is not None:
        installed = [t.value for t in get_available_trackers()]
        if tracker not in installed:
            names = ", ".join(installed) or "none"
            raise InputError(
                f"tracker {tracker!r} is not installed (there is {names}): pip install it first"
            )
    try:
        return Accelerator(
            mixed_precision=mixed_precision, log_with=tracker, project_dir=out / "logs"
        )
    except ValueError as error:
        raise InputError(f"mixed precision {mixed_precision}: {error}") from None


def _console(accelerator: Any) -> Any:
    from rich.console import Console

    return Console(quiet=not accelerator.is_main_process, highlight=False, soft_wrap=True)


# --- evaluate ------------------------------------------------------------------------------------


def _add_evaluate(commands: Any) -> None:
    parser = commands.add_parser("evaluate", help="train networks on a distilled set and test them")
    parser.add_argument("set", type=Path, metavar="FOLDER", help="a distilled set, or res_*.pt")
    _add_data(parser, None, "the set's own")
    parser.add_argument("--networks", help="comma-separated (default: the set's own)")
    parser.add_argument("--num-eval", type=int, default=5, help="networks of each (default 5)")
    parser.add_argument("--epoch-eval-train", type=int, help="epochs (default: the set's own)")
    parser.add_argument("--seed", type=_seed, default=0, help="of the networks (default 0)")
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
    accelerator = _accelerator("no", None, options.set)
    console = _console(accelerator)
    options.dataset = options.dataset or info.dataset
    if options.dataset == "imagefolder" and options.image_size is None:
        options.image_size = tuple(synthetic.images.shape[2:])
    data = synthetic.adopt(_load(options, accelerator))
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


# --- show and export -----------------------------------------------------------------------------


def _add_show(commands: Any) -> None:
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


def _add_export(commands: Any) -> None:
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
    write_res(synthetic, file)
    print(file)


if __name__ == "__main__":
    sys.exit(main())

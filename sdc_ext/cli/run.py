"""``sdc-ext run``: SDC in a script that nobody edits."""

from __future__ import annotations

import itertools
import sys
from argparse import REMAINDER, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from sdc_ext.cli.common import parse_seed
from sdc_ext.errors import InputError
from sdc_ext.recognition import PROFILES, Profile
from sdc_ext.regularizer import LogRamp, Norm

if TYPE_CHECKING:
    from rich.console import Console

    from sdc_ext.injection import InjectionRecord
    from sdc_ext.runner import Script

_EPILOG = """\
The script runs as `python SCRIPT ARGUMENTS` would in its own folder. Example:
sdc-ext run --lam 0.002 -- DatasetCondensation/main.py --dataset MNIST --ipc 1
"""


def add_run(commands: Any) -> None:
    parser = commands.add_parser(
        "run", help="run an unmodified script of an original with SDC", epilog=_EPILOG
    )
    strength = parser.add_mutually_exclusive_group()
    strength.add_argument("--lam", type=float, help="weight of the correction (default 0.002)")
    strength.add_argument(
        "--lam-ramp",
        nargs=3,
        type=float,
        metavar=("START", "END", "ITERATIONS"),
        help="adaptive SDC: lam grows from START to END",
    )
    strength.add_argument(
        "--observe", action="store_true", help="record the difficulty (GraDN), correct nothing"
    )
    parser.add_argument("--norm", choices=get_args(Norm), default="l2", help="default: l2")
    parser.add_argument(
        "--profile",
        choices=["auto", *get_args(Profile)],
        default="auto",
        help="kind of loop (default: auto, from the source)",
    )
    parser.add_argument(
        "--reduction",
        choices=["sum", "mean"],
        help="of the norms of an image step (default: sum for gm, else mean)",
    )
    parser.add_argument(
        "--scale", type=float, default=1.0, help="factor of the term, 0.5 for TESLA (default 1)"
    )
    parser.add_argument("--seed", type=parse_seed, help="seed everything, the clock included")
    parser.add_argument(
        "--record", type=Path, metavar="FILE", help="CSV (default: runs/SCRIPT.csv, or a free name)"
    )
    parser.add_argument(
        "--no-strict", action="store_true", help="warn where a loop does not fit its profile"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and stop")
    parser.add_argument("command", nargs=REMAINDER, metavar="-- SCRIPT [ARGUMENTS]")
    parser.set_defaults(run=_run)


def _run(options: Namespace) -> int:
    from rich.console import Console

    from sdc_ext.corrections import REDUCTIONS
    from sdc_ext.injection import inject
    from sdc_ext.runner import Script

    path, *arguments = _command(options.command)
    script = Script.read(Path(path))
    profile = _profile(options, script)
    # The script's own output stays alone on the standard output.
    console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
    if profile == "none":
        console.print(_announcement(script, profile, "nothing to correct", options.seed))
        return 0 if options.dry_run else script.run(arguments, None, options.seed)
    lam = _lam(options)
    try:
        injection = inject(
            lam,
            profile=profile,
            norm=options.norm,
            reduction=options.reduction,
            scale=options.scale,
            strict=not options.no_strict,
        )
    except (TypeError, ValueError) as error:
        raise InputError(str(error)) from None
    reduction = options.reduction or REDUCTIONS[profile]
    strength = f"lam {lam}, norm {options.norm}, {reduction}, scale {options.scale:g}"
    console.print(_announcement(script, profile, strength, options.seed))
    if script.facts.repeats_gradients and options.scale == 1:
        console.print(
            f"sdc-ext: line {script.facts.repeats_gradients} multiplies a tuple of gradients by a "
            "number, which changes none: the matching gradient is half of what was meant, and lam "
            "counts double; --scale 0.5 restores the balance"
        )
    if options.dry_run:
        console.print(_plan(script, profile))
        return 0
    record = options.record or _free_name(Path("runs"), script.path.stem)
    record = record.resolve()
    if record.exists():
        raise InputError(f"{record} exists: choose another --record")
    with _reported(injection.record, record, console):
        return script.run(arguments, injection, options.seed)


def _command(command: list[str]) -> list[str]:
    command = command[1:] if command[:1] == ["--"] else command
    if not command:
        raise InputError("no script: write it after --, as in sdc-ext run --lam 0.002 -- main.py")
    return command


def _lam(options: Namespace) -> Any:
    if options.observe:
        return 0.0
    if options.lam_ramp is None:
        return 0.002 if options.lam is None else options.lam
    start, end, steps = options.lam_ramp
    if not steps.is_integer():
        raise InputError(f"--lam-ramp needs a whole number of iterations, got {steps:g}")
    try:
        return LogRamp(start, end, int(steps))
    except ValueError as error:
        raise InputError(str(error)) from None


def _profile(options: Namespace, script: Script) -> Any:
    if options.profile != "auto":
        return options.profile
    if script.profile is None:
        choices = "; ".join(f"--profile {name}: {what}" for name, what in PROFILES.items())
        raise InputError(
            f"{script.path.name} was not recognised: neither it nor the modules that it imports "
            "ask for gradients with create_graph=True in a way that is known, so there may be "
            f"nothing to correct. Choose one: {choices}"
        )
    return script.profile


def _announcement(script: Script, profile: Profile, strength: str, seed: int | None) -> str:
    shims = "; ".join(f"{shim.name} ({shim.cause})" for shim in script.shims) or "none"
    clock = "" if seed is None else f"; seed {seed}, also of the clock that the script reads"
    return f"sdc-ext: {script.path.name}: profile {profile}; {strength}{clock}; shims: {shims}"


def _plan(script: Script, profile: Profile) -> str:
    added = {
        "gm": "added at the next backward pass",
        "tm": "added at the next backward pass",
        "tesla": "added, a share a step, where image gradients are asked for",
    }[profile]
    return "\n".join(
        (
            f"profile: {profile} ({PROFILES[profile]})",
            f"why: {script.where.name}: {script.facts}",
            f"folder: {script.path.parent}",
            f"hooks: torch.autograd.grad(create_graph=True) is captured, the term is {added}; "
            "optimiser steps are checked",
            *(f"shim {shim.name}: {shim.cause}" for shim in script.shims),
        )
    )


def _free_name(folder: Path, stem: str) -> Path:
    names = itertools.chain([stem], (f"{stem}-{n}" for n in itertools.count(2)))
    return next(p for p in (folder / f"{name}.csv" for name in names) if not p.exists())


@contextmanager
def _reported(record: InjectionRecord, path: Path, console: Console) -> Iterator[None]:
    """Leaves table, picture and, after a divergence, the last good images, whatever happened."""
    from sdc_ext.errors import DivergenceError

    try:
        yield
    except DivergenceError:
        _save_images(record, path.with_name(path.stem + "-images.pt"), console)
        raise
    except KeyboardInterrupt:
        print("sdc-ext: interrupted", file=sys.stderr)
        sys.exit(130)
    finally:
        if record.steps:
            _report(record, path, console)


def _save_images(record: InjectionRecord, path: Path, console: Console) -> None:
    import torch

    from sdc_ext.files import write_whole

    images = record.images
    if images is not None:
        write_whole(path, lambda p: torch.save(images.cpu(), p))
        console.print(f"sdc-ext: the last images with a finite gradient: {path}")


def _report(record: InjectionRecord, path: Path, console: Console) -> None:
    from sdc_ext.files import write_whole
    from sdc_ext.pictures import draw_curves
    from sdc_ext.report import injection_table

    picture = path.with_suffix(".png")
    columns = record.columns()
    columns["image step"] = [float(n) for n in range(len(record.steps))]
    write_whole(path, record.write_csv)
    write_whole(picture, lambda p: draw_curves(columns, p, over="image step"))
    console.print(injection_table(columns))
    console.print(f"sdc-ext: {len(record.steps)} image steps in {path}, curves in {picture.name}")

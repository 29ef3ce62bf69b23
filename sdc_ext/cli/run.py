"""``sdc-ext run``: SDC in a script that nobody edits."""

from __future__ import annotations

import itertools
import sys
from argparse import REMAINDER, ArgumentParser, Namespace
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, get_args

from sdc_ext._words import number_of
from sdc_ext.cli.options import INTERRUPTED, PLACE, RAMP, RATE, SEED, WEIGHT, StoreSeveral
from sdc_ext.cli.signals import terminated_by
from sdc_ext.errors import DivergenceError, InputError
from sdc_ext.injection.profiles import PROFILES, Profile
from sdc_ext.regularizer import Norm
from sdc_ext.strength import DEFAULT_LAM, STRENGTHS, as_argument

# The process is the script's: what it does not need yet is imported where it is used.
if TYPE_CHECKING:
    from rich.console import Console

    from sdc_ext._files import Writer
    from sdc_ext.injection.hooks import Injection
    from sdc_ext.injection.record import InjectionRecord
    from sdc_ext.injection.runner import Script

_EPILOG = """\
After -- comes what you would write after `python`, and it runs as Python would run it. Examples:
sdc-ext run --lam 0.002 -- DatasetCondensation/main.py --dataset MNIST --ipc 1
sdc-ext run --lam 0.002 -m package.distill --ipc 1
"""

_TRUST = "--trust-pickles"

# The options that shape the term, and all that have no effect where nothing is corrected.
_TERM = ("norm", "reduction", "scale")
_CORRECTION = ("observe", *STRENGTHS, *_TERM, "record", "no_strict")


def add_options(parser: ArgumentParser) -> None:
    """Adds the options of the command to its parser."""
    parser.epilog = _EPILOG
    _add_strength(parser.add_mutually_exclusive_group())
    _add_correction(parser)
    parser.add_argument(
        "--seed", type=SEED, metavar="N", help="seed for all random numbers and the clock"
    )
    parser.add_argument(
        "--record",
        type=PLACE,
        metavar="FILE",
        help="CSV file of the record (default: runs/SCRIPT.csv)",
    )
    parser.add_argument(
        "--no-strict",
        action="store_true",
        help="warn, rather than stop, where a loop does not fit its profile",
    )
    parser.add_argument(
        "--cwd",
        type=PLACE,
        metavar="FOLDER",
        help="folder that the script runs in, for scripts that want their own (default: this one)",
    )
    parser.add_argument(
        _TRUST,
        action="store_true",
        help="let torch.load read files with more than tensors, and execute the code in them",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="print what stands in the script's way here, and stop; exit status 2 if anything does",
    )
    parser.add_argument("--dry-run", action="store_true", help="print what would be done, and stop")
    parser.add_argument(
        "-m",
        dest="module",
        nargs=REMAINDER,
        metavar="MODULE",
        help="run a module of a package, with the arguments after it, as `python -m` does",
    )
    parser.add_argument(
        "command",
        nargs=REMAINDER,
        metavar="-- SCRIPT [ARGUMENTS]",
        help="the script, and the arguments that it gets",
    )
    parser.set_defaults(run=_run)


def _add_strength(group: Any) -> None:
    """Adds the options that say how strong the correction is."""
    weights = {
        "lam": ("weight of the correction (default: 0.002)", "adaptive SDC: lam grows"),
        "share": (
            "strength instead of lam: the norm of the correction's image gradient over that of "
            "the script's own, e.g. 0.1",
            "adaptive SDC as a share: it grows",
        ),
    }
    for name, (text, ramp) in weights.items():
        group.add_argument(f"--{name}", type=WEIGHT, metavar="X", help=text)
        group.add_argument(
            f"--{name}-ramp",
            action=StoreSeveral,
            kind=RAMP,
            help=f"{ramp} from START to END",
        )
    group.add_argument(
        "--observe", action="store_true", help="record the difficulty (GraDN) without correcting"
    )


def _add_correction(parser: ArgumentParser) -> None:
    """Adds the options that say what is corrected, and how."""
    parser.add_argument(
        "--norm", choices=get_args(Norm), help="norm that is penalised (default: l2)"
    )
    parser.add_argument(
        "--profile",
        choices=["auto", *PROFILES, "none"],
        default="auto",
        help="kind of loop (default: auto, which reads the source)",
    )
    parser.add_argument(
        "--reduction",
        choices=["sum", "mean"],
        help="how the norms of an image step are reduced (default: sum for gm and dm, else mean)",
    )
    parser.add_argument(
        "--scale",
        type=RATE,
        help="factor of the term; 0.5 for TESLA's script (default: 1)",
    )


def _run(options: Namespace) -> int:
    from sdc_ext._console import PlainConsole

    script, arguments = _script(options)
    _check_effects(options)
    if options.check:
        return _check(options, script)
    profile = _profile(options, script)
    # The script's own output stays alone on the standard output.
    console = PlainConsole(stderr=True, soft_wrap=True)
    injection = None if profile == "none" else _injection(options, profile)
    console.print(_announcement(options, script, profile))
    if profile == "tesla" and script.facts.repeats_gradients and options.scale in (None, 1):
        console.print(
            f"sdc-ext: line {script.facts.repeats_gradients} multiplies a tuple of gradients by a "
            "number, which changes none: the matching gradient is half of what was meant, and lam "
            "counts double; --scale 0.5 restores the balance"
        )
    if options.dry_run:
        console.print(_plan(script, profile))
        return 0
    files = _Files.check(options.record, script.name)
    if injection is not None:
        from sdc_ext._files import check_place

        check_place(files.folder)
    with terminated_by(_exit):
        try:
            return script.run(arguments, injection, options.seed, _consents(options))
        except DivergenceError:
            if injection is not None:
                files.save_learnt(injection.record, console)
            raise
        except KeyboardInterrupt:
            console.print("sdc-ext: interrupted")
            return INTERRUPTED
        finally:
            if injection is not None and injection.record.steps:
                files.report(injection.record, console)


def _injection(options: Namespace, profile: Profile) -> Injection:
    from sdc_ext.injection.hooks import inject

    try:
        return inject(
            **_strength(options),
            **_term(options, profile),
            profile=profile,
            strict=not options.no_strict,
        )
    except (TypeError, ValueError) as error:
        raise InputError(str(error)) from None


def _given(options: Namespace, names: Iterable[str]) -> str | None:
    """Returns the name of the first of these options that the user has passed; None if none was."""
    values = vars(options)  # 0 is a value, and equals False
    return next((n for n in names if values[n] is not None and values[n] is not False), None)


def _check_effects(options: Namespace) -> None:
    """Raises InputError for an option that can have no effect, whatever the script does."""
    given = _given(options, _CORRECTION)
    if options.profile == "none" and given is not None:
        raise InputError(f"--profile none corrects and records nothing: leave `{given}` out")
    given = _given(options, _TERM)
    if options.observe and given is not None:
        raise InputError(f"`observe` adds no term that `{given}` could shape: leave `{given}` out")


def _exit(number: int) -> NoReturn:
    """Ends the script in order, so that the record is kept."""
    sys.exit(128 + number)


def _script(options: Namespace) -> tuple[Script, list[str]]:
    """Returns the script, which is read but does not run, and its arguments."""
    from sdc_ext.injection.runner import Script

    words = options.command[1:] if options.command[:1] == ["--"] else options.command
    if options.module is not None or words[:1] == ["-m"]:
        name, *arguments = options.module or words[1:] or [""]
        return Script.read_module(name, options.cwd), arguments
    if not words:
        raise InputError("no script: write it after --, as in sdc-ext run --lam 0.002 -- main.py")
    return Script.read(words[0], options.cwd), words[1:]


def _strength(options: Namespace) -> dict[str, Any]:
    """Returns lam or the share, as an argument of ``inject``."""
    if options.observe:
        return {"lam": 0.0}
    name = _given(options, STRENGTHS)
    return {"lam": DEFAULT_LAM} if name is None else as_argument(name, getattr(options, name))


def _term(options: Namespace, profile: Profile) -> dict[str, Any]:
    """Returns what shapes the term, as arguments of ``inject``."""
    return {
        "norm": options.norm or "l2",
        "reduction": options.reduction or PROFILES[profile].reduction,
        "scale": options.scale or 1.0,
    }


def _consents(options: Namespace) -> set[str]:
    return {_TRUST} if options.trust_pickles else set()


def _check(options: Namespace, script: Script) -> int:
    """Prints what stands in the script's way; returns the exit status."""
    from sdc_ext.injection.obstacles import inspect

    report = inspect(script, options.profile, _consents(options))
    print("\n".join(report.lines))
    return 0 if report.is_clear else 2


def _profile(options: Namespace, script: Script) -> Any:
    if options.profile != "auto":
        return options.profile
    if script.profile is None:
        raise InputError(script.advice_on_profile)
    if script.profile != "dm":
        return script.profile
    given = _given(options, _CORRECTION)
    if given is not None:
        raise InputError(f"{script.advice_on_features}, or leave `{given}` out")
    return "none"


def _announcement(options: Namespace, script: Script, profile: Any) -> str:
    parts = [f"{script.path.name}: profile {profile}"]
    if profile in PROFILES:
        ((name, value),) = _strength(options).items()
        term = "norm {norm}, {reduction}, scale {scale:g}".format(**_term(options, profile))
        parts.append(f"{name} {value}, {term}")
    elif script.profile == "dm" and options.profile == "auto":
        parts.append(f"nothing is corrected: {script.advice_on_features}")
    else:
        parts.append("nothing to correct")
    if options.seed is not None:
        parts.append(f"seed {options.seed}, also of the clock that the script reads")
    return "sdc-ext: " + "; ".join(parts)


def _plan(script: Script, profile: str) -> str:
    lines = [f"profile: {profile}", f"why: {script.evidence}"]
    if profile in PROFILES:
        notes = PROFILES[profile]
        lines[0] += f" ({notes.what})"
        lines.append(
            f"hooks: {notes.watched}, the term is added {notes.where}; optimiser steps are checked"
        )
    lines.append(f"folder: {script.folder}")
    if script.advice_on_folder is not None:
        lines.append(f"folder: {script.advice_on_folder}")
    return "\n".join([*lines, *(f"repair {needed}" for needed in script.repairs)])


@dataclass(frozen=True)
class _Files:
    """What a run leaves behind: record, curves and, after a divergence, the last good tensors."""

    folder: Path
    stem: str
    chosen: bool

    @classmethod
    def check(cls, record: Path | None, stem: str) -> _Files:
        """Where to write; known before the script runs, and changes the folder."""
        if record is None:
            return cls(Path("runs").resolve(), stem, chosen=False)
        if record.suffix != ".csv":
            raise InputError(f"--record {record} must end in .csv")
        files = cls(record.parent.resolve(), record.stem, chosen=True)
        for path in files._paths(record.stem):
            if path.exists():
                raise InputError(f"{path} exists: choose another --record")
        return files

    def report(self, record: InjectionRecord, console: Console) -> None:
        """Table, record and curves, whatever ended the run; that keeps its own exit status."""
        from sdc_ext._files import write_files
        from sdc_ext.evaluation.tracking import Action
        from sdc_ext.report.figures import draw_curves
        from sdc_ext.report.tables import injection_table

        table, picture, _ = self._paths(self._free_stem())
        columns = record.columns()
        columns["image step"] = [float(n) for n in range(len(record.steps))]
        console.print(injection_table(columns))
        action = Action.of(columns)
        if action.share > 0:
            console.print(f"sdc-ext: the correction's share is {action}")
        if action.advice is not None:
            console.print(f"sdc-ext: {action.advice}")
        files: dict[str, Writer] = {
            table.name: record.write_csv,
            picture.name: lambda path: draw_curves(columns, path, over="image step"),
        }
        try:
            write_files(self.folder, files)
        except OSError as error:
            console.print(f"sdc-ext: cannot write the record to {error.filename}: {error.strerror}")
            return
        steps = number_of(len(record.steps), "image step")
        console.print(f"sdc-ext: {steps} in {table}, curves beside it")

    def save_learnt(self, record: InjectionRecord, console: Console) -> None:
        from sdc_ext._files import as_tensors, write_whole

        learnt = [tensor.cpu() for tensor in record.learnt]
        if learnt:
            path = self._paths(self._free_stem())[2]
            write_whole(path, as_tensors(learnt))
            count = number_of(len(learnt), "learnt tensor")
            console.print(f"sdc-ext: {count}, of when the gradients were last finite, in {path}")

    def _free_stem(self) -> str:
        """Chosen when it is written: another run may have ended meanwhile."""
        if self.chosen:
            return self.stem
        names = itertools.chain([self.stem], (f"{self.stem}-{n}" for n in itertools.count(2)))
        return next(n for n in names if not self._paths(n)[0].exists())

    def _paths(self, stem: str) -> tuple[Path, Path, Path]:
        ends = (".csv", ".png", "-learnt.pt")
        table, picture, learnt = (self.folder / f"{stem}{end}" for end in ends)
        return table, picture, learnt

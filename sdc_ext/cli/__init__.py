"""The command line ``sdc-ext``: one module a command, and only the one that is asked for loads."""

from __future__ import annotations

import io
import os
import re
import sys
from argparse import Action, ArgumentParser
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from importlib import import_module
from types import MappingProxyType
from typing import Any, NoReturn

from sdc_ext import __version__
from sdc_ext._kinds import Kind
from sdc_ext._memory import advising_on_memory, keep_freed_memory
from sdc_ext._text import visible
from sdc_ext.cli.options import INTERRUPTED, all_actions, fill_placeholders, take_folder
from sdc_ext.cli.signals import terminated_by
from sdc_ext.errors import DivergenceError, InputError, check_choice

_DESCRIPTION = """\
Dataset distillation with Sample Difficulty Correction: distil a data set into a few images per
class, evaluate and compare the result, or add the correction to a script that stays as it is.
"""

# Each command's module in this package, and its purpose.
COMMANDS = {
    "distill": "distil a data set into a few images per class",
    "experts": "train and store expert trajectories",
    "run": "run an unmodified script of another repository with the correction",
    "methods": "list the methods, with their defaults and costs",
    "compare": "distil with several settings under the same seeds, and test whether gains are real",
    "tune": "search for lam on held-out training images",
    "reproduce": "run the shape of the paper's tables and figures within a budget of time",
    "select": "choose real images, the baseline that distillation must beat",
    "identify": "say what a set of any origin is, by which evidence, and how to evaluate it",
    "evaluate": "train networks on distilled sets and test them",
    "score": "compute hard-label recovery, improvement over random, and robust scores",
    "discrepancy": "measure distances of sets to the real images, beside random real images",
    "surrogates": "measure what methods match on sets, and whether it ranks them by accuracy",
    "difficulty": "measure how hard real and distilled images are: misclassification, GraDN, loss",
    "audit": "test networks trained on sets under corruptions and attacks, and by group",
    "membership": "attack networks to find out which images their sets were made from",
    "show": "draw a distilled set and print its description",
    "report": "write one HTML page about distilled sets and comparisons",
    "export": "write a distilled set in the format of another repository",
    "theory": "compute what theory predicts, beside measurements",
    "completion": "print a script that lets your shell complete sdc-ext",
}

# The commands whose help depends on the method.
_HELP_OF_THEIR_OWN = ("distill", "compare", "tune")

# A longer word is no path, but what a damaged file holds.
_MOST = 4096

_BAD_INPUT = 2
_DIVERGED = 3
# As the shell reports the end of other programs by SIGPIPE.
_CLOSED_PIPE = 141

_SMALLER = "choose smaller batches, networks or images, or a machine with more memory"


class _Parser(ArgumentParser):
    """Reports bad usage as the rest of the program does: in one sentence."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False)
        # Otherwise -1e-3 is taken for an option.
        self._negative_number_matcher = re.compile(r"-(\d|\.\d|inf|nan)")

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see {self.prog} --help)")

    def _print_message(self, message: str, file: Any = None) -> None:
        print(message, end="", file=file)  # argparse hides that a disk is full

    def _get_value(self, action: Action, arg_string: str) -> Any:
        if isinstance(action.type, Kind):
            return action.type.read(_name_of(action), arg_string)
        return super()._get_value(action, arg_string)

    def _check_value(self, action: Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            check_choice(_name_of(action).lower(), str(value), map(str, action.choices))


def _name_of(action: Action) -> str:
    named = [flag for flag in action.option_strings if flag.startswith("--")]
    return named[0] if named else str(action.metavar or action.dest)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Returns:
        The status of ``run_program``; for ``run`` that of the script.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    flags: dict[str, str] = {}

    def command() -> int | None:
        _check_command(given)
        parser = build_parser(given[0] if given else "")
        flags.update(_flags_of(parser))
        options, unknown = parser.parse_known_args(given)
        if unknown:
            raise InputError(_unknown_options(given[0], unknown, flags.values()))
        if hasattr(options, "print_help"):
            options.print_help(options)
        needs_method = given[0] in _HELP_OF_THEIR_OWN and getattr(options, "plan", None) is None
        if needs_method and options.method is None:
            raise InputError(f"METHOD is missing: see sdc-ext {given[0]} --help")
        take_folder(options)
        status: int | None = options.run(options)
        return status

    hint = "continue with --resume" if given[:1] == ["distill"] else ""
    return run_program("sdc-ext", command, hint, flags)


def _check_command(given: Sequence[str]) -> None:
    """Raises InputError unless the arguments begin with a command, or ask for help."""
    if not given or given[0] in ("-h", "--help", "--version"):
        return
    if given[0].startswith("-"):
        raise InputError(
            f"unrecognized argument {given[0]}: options stand after a command; sdc-ext --help "
            "lists the commands"
        )
    check_choice("command", given[0], COMMANDS)


def _flags_of(parser: ArgumentParser) -> dict[str, str]:
    """Returns the options by the arguments that they set: their own names and their ``dest``."""
    found: dict[str, str] = {}
    for action in all_actions(parser):
        long = [flag for flag in action.option_strings if flag.startswith("--")]
        found |= {flag.removeprefix("--").replace("-", "_"): flag for flag in long}
        if long:  # `lams` is what --lam sets where it takes several values
            found.setdefault(action.dest, long[0])
    return found


def run_program(
    name: str,
    program: Callable[[], int | None],
    when_interrupted: str = "",
    flags: Mapping[str, str] = MappingProxyType({}),
) -> int:
    """Runs a program; problems that its user can act on end it with one sentence.

    Args:
        name: What the sentence begins with.
        program: The program; it may return a status of its own.
        when_interrupted: What the user can do after an interruption.
        flags: The program's options by the arguments of functions that they set. Where a problem
            names such an argument, written in backticks, its sentence names the option.

    Returns:
        0 if it succeeded, 2 for bad input, 3 if a loss diverged, 130 if interrupted, 141 if what
        reads its output has ended, 143 if terminated.
    """
    keep_freed_memory()
    _print_any_character()
    try:
        with terminated_by(_interrupt), advising_on_memory(_SMALLER):
            return _and_flush(program)
    except InputError as error:
        return _report(name, _with_flags(str(error), flags), _BAD_INPUT)
    except BrokenPipeError:
        _discard_output()
        return _CLOSED_PIPE
    except OSError as error:
        return _report(name, _of_system(error), _BAD_INPUT)
    except DivergenceError as error:
        return _report(name, _with_flags(str(error), flags), _DIVERGED)
    except KeyboardInterrupt as error:
        hint = f"; {when_interrupted}" if when_interrupted else ""
        word, status = error.args or ("interrupted", INTERRUPTED)
        return _report(name, f"{word}{hint}", status)
    finally:
        _leave_group()


def _print_any_character() -> None:
    """Lets the terminals of old locales show a question mark for what they have no letter for."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _and_flush(program: Callable[[], int | None]) -> int:
    """Runs a program and flushes its output, so that errors of the latter are seen in time.

    Raises:
        BrokenPipeError: If what reads the output has ended, which rich reports as an exit.
    """
    try:
        status = program() or 0
    except SystemExit as ended:
        if isinstance(ended.__context__, BrokenPipeError):
            raise BrokenPipeError from None
        sys.stdout.flush()
        raise
    sys.stdout.flush()
    return status


def _of_system(error: OSError) -> str:
    """Returns a sentence about what the system refuses."""
    reason = error.strerror or error
    if error.filename is not None:
        return f"cannot use {error.filename}: {reason}"
    try:  # writing once more tells whether it was the output, which has no name
        print(flush=True)
    except OSError:
        _discard_output()
        return f"cannot write to standard output: {reason}"
    return f"the system refuses to go on: {reason}"


def _discard_output() -> None:
    """Keeps Python from writing to the standard output once more when it ends."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _interrupt(number: int) -> NoReturn:
    """Ends the program as Ctrl-C does, with a status of its own."""
    raise KeyboardInterrupt("terminated", 128 + number)


def _unknown_options(command: str, unknown: Sequence[str], flags: Iterable[str]) -> str:
    first = next((word for word in unknown if word.startswith("-")), unknown[0])
    named = first.partition("=")[0]
    others = _commands_with(named) if first.startswith("--") else []
    near = get_close_matches(named, flags, n=1, cutoff=0.8 if others else 0.6)
    said = f"unrecognized arguments {' '.join(unknown)}: "
    if others:
        said = f"{command} has no {named}, which belongs to {', '.join(others)}: "
    if near:
        said += f"did you mean {near[0]}? "
    return f"{said}sdc-ext {command} --help lists the options"


def _commands_with(flag: str) -> list[str]:
    return [name for name in COMMANDS if flag in _flags_of(build_parser(name)).values()]


def _leave_group() -> None:
    """Ends the group of processes, if there is one."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def _with_flags(problem: str, flags: Mapping[str, str]) -> str:
    """Writes the arguments that a sentence names as the options that set them."""

    def as_flag(found: re.Match[str]) -> str:
        name, value = found["name"], found["value"]
        if value == "False" and f"no_{name}" in flags:
            return flags[f"no_{name}"]
        flag = flags.get(name)
        if flag is None:
            return found[0]
        return flag if value in (None, "True") else f"{flag} {value}"

    return re.sub(r"`(?P<name>[a-z_]+)(=(?P<value>[^`]*))?`", as_flag, problem)


def _report(name: str, problem: str, status: int) -> int:
    words = (word if len(word) <= _MOST else f"{word[:50]}..." for word in problem.split())
    print(f"{name}:", visible(" ".join(words)), file=sys.stderr)
    return status


def build_parser(only: str | None = None) -> ArgumentParser:
    """The parser of the command line.

    Args:
        only: The command whose options are added; all by default, which imports all commands.
    """
    parser = _Parser(prog="sdc-ext", description=_DESCRIPTION)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)
    for name, purpose in COMMANDS.items():
        own_help = name not in _HELP_OF_THEIR_OWN
        command = commands.add_parser(name, help=purpose, description=purpose, add_help=own_help)
        if only in (None, name):
            import_module(f"sdc_ext.cli.{name}").add_options(command)
            fill_placeholders(command)
    return parser

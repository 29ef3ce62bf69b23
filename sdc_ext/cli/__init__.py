"""The command line ``sdc-ext``: one module a group of commands."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from typing import NoReturn

from sdc_ext._memory import keep_freed_memory
from sdc_ext.cli.common import INTERRUPTED
from sdc_ext.cli.compare import add_compare
from sdc_ext.cli.difficulty import add_difficulty
from sdc_ext.cli.discrepancy import add_discrepancy
from sdc_ext.cli.distill import add_distill
from sdc_ext.cli.evaluate import add_evaluate
from sdc_ext.cli.experts import add_experts
from sdc_ext.cli.report import add_report
from sdc_ext.cli.run import add_run
from sdc_ext.cli.score import add_score
from sdc_ext.cli.select import add_select
from sdc_ext.cli.sets import add_export, add_show
from sdc_ext.cli.theory import add_theory
from sdc_ext.cli.tune import add_tune
from sdc_ext.errors import DivergenceError, InputError

_BAD_INPUT = 2
_DIVERGED = 3


class _Parser(ArgumentParser):
    """Reports bad usage as the rest of the program does: in one sentence."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see {self.prog} --help)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Returns:
        0 if it succeeded (for ``run`` the script's own status), 2 for bad input, 3 if a loss
        diverged, 130 if interrupted.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        options = _parser(given).parse_args(given)
        keep_freed_memory()
        status: int = options.run(options) or 0
        return status
    except InputError as error:
        return _report(error, _BAD_INPUT)
    except OSError as error:
        what = error.filename or "a temporary file"
        return _report(f"cannot use {what}: {error.strerror or error}", _BAD_INPUT)
    except DivergenceError as error:
        return _report(error, _DIVERGED)
    except KeyboardInterrupt:
        hint = "; continue with --resume" if given[:1] == ["distill"] else ""
        return _report(f"interrupted{hint}", INTERRUPTED)
    finally:
        _leave_group()


def _leave_group() -> None:
    """Ends the group of processes, if there is one."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def _report(problem: object, status: int) -> int:
    print("sdc-ext:", " ".join(str(problem).split()), file=sys.stderr)
    return status


def _parser(given: Sequence[str]) -> ArgumentParser:
    from sdc_ext import __version__

    parser = _Parser(prog="sdc-ext", description="Dataset distillation with SDC.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)
    add_distill(commands, given)
    add_experts(commands, given)
    add_run(commands)
    add_compare(commands, given)
    add_tune(commands, given)
    add_select(commands, given)
    add_evaluate(commands)
    add_score(commands)
    add_discrepancy(commands, given)
    add_difficulty(commands, given)
    add_show(commands)
    add_report(commands)
    add_export(commands)
    add_theory(commands)
    return parser

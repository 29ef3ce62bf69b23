"""``sdc-ext completion``: lets a shell complete commands, options and paths."""

from __future__ import annotations

from argparse import Action, ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path

from sdc_ext.errors import InputError

_EPILOG = """\
bash: sdc-ext completion bash > ~/.local/share/bash-completion/completions/sdc-ext
zsh: sdc-ext completion zsh > a folder in $fpath, as _sdc-ext
"""


def add_options(parser: ArgumentParser) -> None:
    """Adds the options of the command to its parser."""
    parser.epilog = _EPILOG
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="the shell")
    parser.set_defaults(run=_completion)


def _completion(options: Namespace) -> None:
    try:
        import shtab
    except ImportError:
        raise InputError(
            "completion needs shtab: install it with pip install 'sdc-ext[completion]'"
        ) from None
    # The package imports this module only when the command is run.
    from sdc_ext.cli import build_parser

    parser = build_parser()
    for action in _actions(parser):
        if action.type is Path:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    print(shtab.complete(parser, options.shell))


def _actions(parser: ArgumentParser) -> Iterator[Action]:
    """The options of a parser and of the commands below it."""
    for action in parser._actions:
        yield action
        if isinstance(action.choices, dict):
            for command in action.choices.values():
                yield from _actions(command)

"""``sdc-ext completion``: lets a shell complete commands, options and paths."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from pathlib import Path

from sdc_ext.cli.options import all_actions
from sdc_ext.errors import InputError

_EPILOG = """\
bash:  sdc-ext completion bash > ~/.local/share/bash-completion/completions/sdc-ext
zsh:   sdc-ext completion zsh > ~/.zfunc/_sdc-ext    (with ~/.zfunc in $fpath)
"""


def add_options(parser: ArgumentParser) -> None:
    """Adds the options of the command to its parser."""
    parser.epilog = _EPILOG
    parser.formatter_class = RawDescriptionHelpFormatter
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
    for action in all_actions(parser):
        if action.type is Path:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    print(shtab.complete(parser, options.shell))

"""``sdc-ext completion``: lets a shell complete commands, options and paths."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter

from sdc_ext._kinds import Place
from sdc_ext.adapters import METHODS
from sdc_ext.cli.options import all_actions
from sdc_ext.data import DATASETS
from sdc_ext.errors import InputError
from sdc_ext.evaluation.selection import BASELINES

_EPILOG = """\
bash:  mkdir -p ~/.local/share/bash-completion/completions
       sdc-ext completion bash > ~/.local/share/bash-completion/completions/sdc-ext
zsh:   mkdir -p ~/.zfunc; sdc-ext completion zsh > ~/.zfunc/_sdc-ext    (~/.zfunc is in $fpath)
tcsh:  sdc-ext completion tcsh > ~/.sdc-ext.tcsh; echo "source ~/.sdc-ext.tcsh" >> ~/.tcshrc
"""

# The names of data sets, and folders.
_DATASET = {"bash": "_sdc_ext_dataset", "zsh": "_sdc_ext_dataset", "tcsh": "d"}

_PREAMBLE = {
    "bash": '_sdc_ext_dataset() { compgen -W "NAMES" -- "$1"; compgen -d -- "$1"; }',
    "zsh": "_sdc_ext_dataset() { _alternative 'n:data set:(NAMES)' 'f:folder:_files -/' }",
}


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
    names = {"METHOD": METHODS.names(), "BASELINE": sorted(BASELINES)}
    for action in all_actions(parser):
        if action.metavar in names:
            action.choices = names[str(action.metavar)]
        elif isinstance(action.type, Place):
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif action.dest == "data":
            action.complete = _DATASET  # type: ignore[attr-defined]
    datasets = " ".join(DATASETS.names())
    preamble = _PREAMBLE.get(options.shell, "").replace("NAMES", datasets)
    print(shtab.complete(parser, options.shell, preamble=preamble))

"""The options that commands which distil share, and a help that fits the method."""

from __future__ import annotations

from argparse import OPTIONAL, SUPPRESS, Action, ArgumentParser, Namespace
from collections.abc import Collection, Iterable, Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any, get_type_hints

from sdc_ext._options import COMPUTING, GROUPS
from sdc_ext.adapters import METHODS, Method, get_method, known_methods
from sdc_ext.adapters.run_settings import RunSettings
from sdc_ext.cli.options import (
    COUNT,
    PLACE,
    add_computing,
    add_data_reading,
    add_data_source,
    add_setting,
)

_EPILOG = """\
"%(prog)s METHOD --help" lists only what applies to that method. "sdc-ext methods METHOD" prints
its values for a data set and ipc with their sources: the script of the original repository, the
tables of the SDC paper, or sdc-ext.
"""

# Settings that stand with the options that matter first, rather than in their groups.
_FIRST = ("lam", "iterations", "network")


@dataclass
class _Setting:
    """A setting as the command line offers it, with the methods that have it."""

    option: Field[Any]
    kind: Any
    methods: list[str] = field(default_factory=list)


def add_distillation(parser: ArgumentParser, without: Collection[str] = ()) -> Any:
    """Adds the options that commands which distil have in common.

    Args:
        parser: The parser of the command.
        without: Names of options that the command lacks, or has in a form of its own.

    Returns:
        The group of the options that matter first, to which the command adds its own.
    """
    parser.usage = "%(prog)s METHOD [options]"
    parser.epilog = _EPILOG
    parser.add_argument("method", nargs=OPTIONAL, metavar="METHOD", help=", ".join(METHODS.names()))
    methods = known_methods()
    settings = {name: one for name, one in offered_settings(methods).items() if name not in without}
    applies: dict[Action, Collection[str]] = {}

    def add(group: Any, name: str) -> None:
        one = settings[name]
        applies[add_setting(group, one.option, one.kind)] = one.methods

    first = parser.add_argument_group("main options")
    add_data_source(first, "digits", "digits, which are bundled")
    first.add_argument(
        "--ipc", type=COUNT, default=1, metavar="N", help="images per class (default: 1)"
    )
    for name in _FIRST:
        if name in settings:
            add(first, name)
    if "experts" not in without:
        text = (
            "folder of expert trajectories, ours or replay_buffer_*.pt; for several networks, one "
            "with a subfolder for each"
        )
        experts = first.add_argument("--experts", type=PLACE, metavar="FOLDER", help=text)
        applies[experts] = [method.name for method in methods if method.experts is not None]
    add_data_reading(parser.add_argument_group("reading the data"))
    for title, names in _grouped(settings, len(methods)).items():
        group = parser.add_argument_group(title)
        for name in names:
            add(group, name)
        if title == COMPUTING:
            compiling = add_computing(group, "real gradients and networks' training")
            applies[compiling] = [method.name for method in methods if method.loop().compiles]
    _fit_help(parser, applies)
    return first


def offered_settings(methods: Iterable[Method]) -> dict[str, _Setting]:
    """The settings of the methods by name."""
    found: dict[str, _Setting] = {}
    for method in methods:
        for cls in (RunSettings, method.loop):
            types = get_type_hints(cls, include_extras=True)
            for one in fields(cls):
                setting = found.setdefault(one.name, _Setting(one, types[one.name]))
                setting.methods.append(method.name)
    return found


def _grouped(settings: Mapping[str, _Setting], everybody: int) -> dict[str, list[str]]:
    """The names of the settings under the headings of help, by purpose and by methods."""
    found: dict[str, list[str]] = {}
    for purpose in GROUPS:
        those = {
            name: one for name, one in settings.items() if one.option.metadata["group"] == purpose
        }
        # Settings that apply to all methods come first.
        for name, one in sorted(those.items(), key=lambda item: -len(item[1].methods)):
            if name not in _FIRST:
                shared = len(one.methods) == everybody
                title = purpose if shared else f"{purpose}, for {', '.join(one.methods)}"
                found.setdefault(title, []).append(name)
    return found


def _fit_help(parser: ArgumentParser, applies: dict[Action, Collection[str]]) -> None:
    """Makes ``--help`` after a method leave out the options that do not apply to it."""

    def print_help(options: Namespace) -> None:
        if options.method is not None:
            method = get_method(options.method).name
            for action, methods in applies.items():
                if method not in methods:
                    action.help = SUPPRESS
        parser.print_help()
        parser.exit()

    parser.add_argument(
        "-h",
        "--help",
        action="store_const",
        const=print_help,
        dest="print_help",
        default=SUPPRESS,
        help="this help",
    )

"""``sdc-ext methods``: what the methods match, their defaults, and what they cost."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from sdc_ext._console import PlainConsole
from sdc_ext.adapters import get_method, known_methods, resolve
from sdc_ext.cli.options import COUNT, TEXT
from sdc_ext.data import CLASS_COUNTS
from sdc_ext.report.method_table import method_table
from sdc_ext.report.tables import settings_table


def add_options(parser: ArgumentParser) -> None:
    """Adds the options of the command to its parser."""
    parser.add_argument(
        "method", nargs="?", metavar="METHOD", help="print all settings of this one, with sources"
    )
    parser.add_argument(
        "--dataset",
        dest="data",
        type=TEXT,
        default="cifar10",
        help="data set of the defaults (default: cifar10)",
    )
    parser.add_argument(
        "--ipc", type=COUNT, default=1, metavar="N", help="images per class (default: 1)"
    )
    parser.set_defaults(run=_methods)


def _methods(options: Namespace) -> None:
    console = PlainConsole(soft_wrap=True)
    if options.method is None:
        classes = CLASS_COUNTS.get(options.data)
        console.print(method_table(known_methods(), options.data, options.ipc, classes))
        console.print(
            "images: how many a run passes through networks, forward and back; training experts "
            "and evaluating are not counted"
        )
        console.print("sdc-ext methods METHOD lists all settings of one, with their sources")
        return
    method = get_method(options.method)
    console.print(f"{method.name} matches {method.matches or 'what its loop says'}")
    console.print(method.reference)
    title = f"settings for {options.data} at ipc {options.ipc}"
    console.print(settings_table(resolve(method, options.data, options.ipc, {}), title))

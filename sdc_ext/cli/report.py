"""``sdc-ext report``: one HTML page about distilled sets."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from sdc_ext._console import PlainConsole
from sdc_ext._files import write_whole
from sdc_ext.cli.options import PLACE
from sdc_ext.report.html_page import unfinished_runs, write_report
from sdc_ext.verbs.session import check_free


def add_options(parser: ArgumentParser) -> None:
    """Adds the options of the command to its parser."""
    parser.add_argument(
        "folders",
        type=PLACE,
        nargs="+",
        metavar="FOLDER",
        help="folder that distill, select or compare wrote",
    )
    parser.add_argument(
        "--out",
        type=PLACE,
        default=Path("report.html"),
        help="file of the page (default: report.html)",
    )
    parser.set_defaults(run=_report)


def _report(options: Namespace) -> None:
    check_free(options.out)
    write_whole(options.out, lambda path: write_report(options.folders, path))
    console = PlainConsole(soft_wrap=True)
    unfinished = unfinished_runs(options.folders)
    if unfinished:
        names = ", ".join(map(str, unfinished))
        console.print(f"left out, since they have not saved a set yet: {names}")
    console.print(str(options.out))

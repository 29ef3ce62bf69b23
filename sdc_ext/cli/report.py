"""``sdc-ext report``: one HTML page about distilled sets."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from sdc_ext._console import PlainConsole
from sdc_ext._files import write_whole
from sdc_ext.cli.options import PLACE, check_picture
from sdc_ext.report.courses import draw_courses
from sdc_ext.report.html_page import read_runs, unfinished_runs, write_report
from sdc_ext.verbs.session import check_free_file


def add_options(parser: ArgumentParser) -> None:
    """Adds the options of the command to its parser."""
    parser.add_argument(
        "folders",
        type=PLACE,
        nargs="+",
        metavar="FOLDER",
        help="folder that distill, select, compare or evaluate wrote",
    )
    parser.add_argument(
        "--out",
        type=PLACE,
        default=Path("report.html"),
        help="file of the page (default: report.html)",
    )
    parser.add_argument(
        "--courses",
        type=PLACE,
        metavar="FILE",
        help="picture to write, too: GraDN and accuracy over the run, all methods in one chart",
    )
    parser.set_defaults(run=_report)


def _report(options: Namespace) -> None:
    check_free_file(options.out)
    if options.courses is not None:
        check_free_file(options.courses)
        check_picture(options.courses)
    write_report(options.folders, options.out)
    if options.courses is not None:
        runs = read_runs(options.folders)
        write_whole(options.courses, lambda path: draw_courses(runs, path))
    console = PlainConsole(soft_wrap=True)
    unfinished = unfinished_runs(options.folders)
    if unfinished:
        names = ", ".join(map(str, unfinished))
        console.print(f"left out, since they have not saved a set yet: {names}")
    console.print(str(options.out))
    if options.courses is not None:
        console.print(str(options.courses))

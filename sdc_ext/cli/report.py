"""``sdc-ext report``: one HTML page about distilled sets."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from sdc_ext._files import write_whole
from sdc_ext.errors import InputError


def add_report(commands: Any) -> None:
    parser = commands.add_parser("report", help="write one HTML page about distilled sets")
    parser.add_argument(
        "folders",
        type=Path,
        nargs="+",
        metavar="FOLDER",
        help="what distill, select or compare wrote",
    )
    parser.add_argument("--out", type=Path, default=Path("report.html"), help="report.html")
    parser.set_defaults(run=_report)


def _report(options: Namespace) -> None:
    from sdc_ext.report.html_page import write_report

    if options.out.exists():
        raise InputError(f"{options.out} exists: name another --out")
    write_whole(options.out, lambda path: write_report(options.folders, path))
    print(options.out)

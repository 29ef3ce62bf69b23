"""``sdc-ext theory``: what theory says, beside measurements."""

from __future__ import annotations

from typing import Any

from sdc_ext.cli.laws import add_coverage, add_scaling
from sdc_ext.cli.perceptron import add_perceptron


def add_theory(commands: Any) -> None:
    parser = commands.add_parser("theory", help="what theory says, beside measurements")
    theories = parser.add_subparsers(metavar="THEORY", required=True, parser_class=type(parser))
    add_perceptron(theories)
    add_scaling(theories)
    add_coverage(theories)

"""``sdc-ext theory``: what theory says, beside measurements."""

from __future__ import annotations

from argparse import ArgumentParser

from sdc_ext.cli.laws import add_coverage, add_scaling
from sdc_ext.cli.perceptron import add_perceptron


def add_options(parser: ArgumentParser) -> None:
    """Adds a command for each theory."""
    theories = parser.add_subparsers(metavar="THEORY", required=True, parser_class=type(parser))
    add_perceptron(theories)
    add_scaling(theories)
    add_coverage(theories)

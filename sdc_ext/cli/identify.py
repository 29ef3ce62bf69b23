"""``sdc-ext identify``: what a set is, by which evidence, and how to evaluate it."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from sdc_ext.cli.options import PLACE
from sdc_ext.cli.sets import SET_HELP, add_set_data, loader, opening
from sdc_ext.errors import InputError
from sdc_ext.verbs.identification import identify_with
from sdc_ext.verbs.session import make_accelerator, make_console


def add_options(parser: ArgumentParser) -> None:
    """Adds the options of the command to its parser."""
    parser.add_argument("set", type=PLACE, metavar="SET", help=SET_HELP)
    add_set_data(parser)
    parser.set_defaults(run=_identify)


def _identify(options: Namespace) -> None:
    accelerator = make_accelerator()
    found = identify_with(
        options.set, loader(options, accelerator), opening(options), _named_data(options)
    )
    make_console(accelerator).print(found)
    if found.examination.question:
        raise InputError(found.examination.question)


def _named_data(options: Namespace) -> list[str]:
    """Returns the options that name the real data and how they are read, as far as given."""
    given = {"--dataset": options.data, "--data-dir": options.data_dir}
    if options.background != "white":
        given["--background"] = options.background
    return [str(word) for pair in given.items() if pair[1] is not None for word in pair]

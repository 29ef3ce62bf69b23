"""``sdc-ext identify``: what a set is, by which evidence, and how to evaluate it."""

from __future__ import annotations

import functools
from argparse import ArgumentParser, Namespace

from sdc_ext._console import PlainConsole
from sdc_ext.cli.options import PLACE
from sdc_ext.cli.sets import SET_HELP, add_set_data, loader, opening
from sdc_ext.errors import InputError
from sdc_ext.sets.identification import identify
from sdc_ext.verbs.identification import Identified
from sdc_ext.verbs.session import make_accelerator


def add_options(parser: ArgumentParser) -> None:
    """Adds the options of the command to its parser."""
    parser.add_argument("set", type=PLACE, metavar="SET", help=SET_HELP)
    add_set_data(parser)
    parser.set_defaults(run=_identify)


def _identify(options: Namespace) -> None:
    accelerator = make_accelerator()
    said = opening(options)
    load = functools.cache(loader(options, accelerator))
    identity = identify(options.set, load, said)
    if accelerator.is_main_process:
        PlainConsole(soft_wrap=True).print(Identified(identity, said))
    if identity.question:
        raise InputError(identity.question)

"""``sdc-ext export``: a distilled set in somebody else's format."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from sdc_ext._console import PlainConsole
from sdc_ext._files import is_free, write_whole
from sdc_ext._words import number_of
from sdc_ext.cli.options import PLACE
from sdc_ext.cli.sets import SET_HELP, add_set_data, open_named_set
from sdc_ext.errors import InputError
from sdc_ext.sets.export import FORMATS, default_name
from sdc_ext.verbs.session import make_accelerator


def add_options(parser: ArgumentParser) -> None:
    """Adds the options of the command to its parser."""
    parser.add_argument("set", type=PLACE, metavar="SET", help=SET_HELP)
    add_set_data(parser)
    parser.add_argument(
        "to",
        type=PLACE,
        nargs="?",
        help="file or folder (default: the name that the original repository would give)",
    )
    parser.add_argument(
        "--format",
        choices=("res", "best", "pictures", "dd-ranking"),
        default="res",
        help="res: res_*.pt as DC's script writes it (default); best: images_best.pt and its "
        "companions as MTT's, TESLA's and DATM's write them; pictures: a folder of PNG files with "
        "a data-set card; dd-ranking: DD-Ranking's tensors",
    )
    parser.set_defaults(run=_export)


def _export(options: Namespace) -> None:
    accelerator = make_accelerator()
    synthetic = open_named_set(options.set, options, accelerator)
    to = options.to or Path(default_name(synthetic, options.format))
    if options.format in ("res", "dd-ranking") and to.suffix != ".pt":
        raise InputError(f"{to} must end in .pt for --format {options.format}: name another")
    if not accelerator.is_main_process:
        return
    if not is_free(to):
        raise InputError(f"{to} exists: name another")
    if not to.absolute().parent.is_dir():
        raise InputError(f"there is no folder {to.parent} to write {to.name} to")
    write_whole(to, lambda path: FORMATS[options.format](synthetic, path))
    console = PlainConsole(soft_wrap=True)
    console.print(str(to))
    if synthetic.stored is not None and options.format != "pictures":
        stored = number_of(len(synthetic.stored), "stored image")
        console.print(
            f"it holds the {len(synthetic.images)} images that the {stored} decode to, since "
            "other projects' formats have no factor"
        )

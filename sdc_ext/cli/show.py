"""``sdc-ext show``: what a distilled set looks like, and what is known of it."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from sdc_ext._console import PlainConsole
from sdc_ext._files import write_whole
from sdc_ext.adapters import selects_of
from sdc_ext.cli.options import PLACE, check_picture
from sdc_ext.cli.sets import SET_HELP, add_set_data, open_named_set
from sdc_ext.report.figures import draw_curves
from sdc_ext.report.tables import summary
from sdc_ext.sets.history import read_history
from sdc_ext.sets.synthetic_set import GRID
from sdc_ext.verbs.session import make_accelerator


def add_options(parser: ArgumentParser) -> None:
    """Adds the options of the command to its parser."""
    parser.add_argument("set", type=PLACE, metavar="SET", help=SET_HELP)
    add_set_data(parser)
    parser.add_argument(
        "--out", type=PLACE, help="file of the picture (default: grid.png in the folder)"
    )
    parser.set_defaults(run=_show)


def _show(options: Namespace) -> None:
    if options.out is not None:
        check_picture(options.out)
    accelerator = make_accelerator()
    synthetic = open_named_set(options.set, options, accelerator)
    if not accelerator.is_main_process:
        return
    own = options.set / GRID if options.set.is_dir() else options.set.with_suffix(".png")
    grid = options.out or own
    write_whole(grid, synthetic.draw)
    console = PlainConsole(soft_wrap=True)
    history = read_history(options.set)
    console.print(summary(synthetic, selects_of(synthetic.info.method), history))
    console.print(f"picture: {grid}")
    if history:
        curves = grid.with_name(f"{grid.stem}-curves.png")
        write_whole(curves, lambda path: draw_curves(history, path))
        console.print(f"curves: {curves}")

"""``sdc-ext audit``: accuracy under corruptions and attacks, and by group of test images."""

from __future__ import annotations

import csv
from argparse import ArgumentParser, Namespace
from pathlib import Path

from sdc_ext._reading import opened
from sdc_ext.cli.folders import check_results, save_and_print
from sdc_ext.cli.options import COUNT, NAMES, PLACE, TEXT, add_seed, add_workers
from sdc_ext.cli.sets import SET_HELP, add_set_data, open_named_sets
from sdc_ext.errors import InputError
from sdc_ext.verbs.audit import CONDITIONS, audit_set
from sdc_ext.verbs.session import make_accelerator


def add_options(parser: ArgumentParser) -> None:
    """Adds the options of the command to its parser."""
    parser.add_argument("sets", type=PLACE, nargs="+", metavar="SET", help=SET_HELP)
    add_set_data(parser)
    parser.add_argument(
        "--conditions",
        type=NAMES,
        default=list(CONDITIONS),
        help="comma-separated changes of the test images: gaussian-noise, gaussian-blur, "
        "brightness, contrast, pixelate or jpeg with a severity from 1 to 5, and fgsm or pgd with "
        f"a change in 255ths (default: {','.join(CONDITIONS)})",
    )
    parser.add_argument(
        "--groups",
        type=PLACE,
        metavar="CSV",
        help="file with the group of each test image, one per line (default: its class)",
    )
    parser.add_argument("--network", type=TEXT, help="network to train (default: the set's own)")
    parser.add_argument(
        "--num-eval", type=COUNT, default=5, help="number of networks per set (default: 5)"
    )
    parser.add_argument(
        "--epoch-eval-train",
        type=COUNT,
        help="number of training epochs (default: the set's own)",
    )
    add_seed(parser)
    parser.add_argument("--out", type=PLACE, help="folder of the table and the picture")
    add_workers(parser, "networks")
    parser.set_defaults(run=_audit)


def _audit(options: Namespace) -> None:
    check_results(options.out, options.sets)
    groups = None if options.groups is None else read_groups(options.groups)
    accelerator = make_accelerator()
    audited = audit_set(
        open_named_sets(options, accelerator),
        conditions=options.conditions,
        groups=groups,
        network=options.network,
        num_eval=options.num_eval,
        epoch_eval_train=options.epoch_eval_train,
        seed=options.seed,
        workers=options.workers,
        accelerator=accelerator,
    )
    files = "audit.csv and audit.png"
    save_and_print(audited, files, accelerator, options.out, "audit", options.sets)


def read_groups(path: Path) -> list[str]:
    """Returns the lines of a text file, which may be one column of comma-separated values.

    Raises:
        InputError: If the file cannot be read, or a line is empty or has several columns.
    """
    try:
        with opened(path, encoding="utf-8-sig", newline="") as file:
            lines = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"cannot read {path} ({error}): pass a text file with one group per line"
        ) from None
    for number, line in enumerate(lines, 1):
        if not line or not line[0].strip():
            raise InputError(f"line {number} of {path} names no group: write one group per line")
        if len(line) > 1:
            raise InputError(
                f"line {number} of {path} has {len(line)} columns: keep the one with the groups"
            )
    return [line[0].strip() for line in lines]

"""``sdc-ext select``: real images as a distilled set."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import replace
from pathlib import Path

from sdc_ext.cli.data import data_label, load_chosen_data
from sdc_ext.cli.folders import check_free
from sdc_ext.cli.options import add_data, add_settings, chosen_settings, parse_seed
from sdc_ext.errors import check_choice
from sdc_ext.verbs.session import make_accelerator, make_console, prepare_data


def add_options(parser: ArgumentParser) -> None:
    """Adds the options of the command to its parser."""
    parser.add_argument(
        "baseline", metavar="BASELINE", help="random, herding, k-center or forgetting"
    )
    add_data(parser, "digits", "digits")
    parser.add_argument("--ipc", type=int, default=1, help="images per class (default 1)")
    parser.add_argument("--seed", type=parse_seed, default=0, help="of everything random")
    parser.add_argument(
        "--like", default="dc", metavar="METHOD", help="evaluated as this method's sets are"
    )
    parser.add_argument("--out", type=Path, help="folder of the set")
    from sdc_ext.training.probe import Probe

    group = parser.add_argument_group("the network that all but random look through")
    add_settings(group, Probe)
    parser.set_defaults(run=_select)


def _select(options: Namespace) -> None:
    from rich.progress import Progress

    from sdc_ext.adapters import get_method
    from sdc_ext.adapters.settings import YOUR_CHOICE, resolve
    from sdc_ext.evaluation.selection import BASELINES, select_images
    from sdc_ext.report.tables import summary
    from sdc_ext.sets.info import told_by_data
    from sdc_ext.sets.synthetic_set import SyntheticSet, class_labels
    from sdc_ext.training.probe import Probe

    check_choice("baseline", options.baseline, BASELINES)
    method = get_method(options.like)
    settings = resolve(method, options.dataset, options.ipc, {})
    chosen = {"network": settings.run.network, **chosen_settings(options)}
    probe = Probe(**chosen)
    out = options.out or Path("runs") / f"{options.baseline}-{data_label(options)}-ipc{options.ipc}"
    check_free(out)
    accelerator = make_accelerator("no", None, out)
    console = make_console(accelerator)
    data = prepare_data(load_chosen_data(options, accelerator), settings.run, accelerator)
    console.print(data.describe())
    with Progress(console=console, disable=not accelerator.is_main_process) as progress:
        epochs = 0 if options.baseline == "random" else probe.train_epochs
        bar = progress.add_task("looking at the real images", total=epochs)
        index = select_images(
            options.baseline,
            data,
            options.ipc,
            probe,
            seed=options.seed,
            device=accelerator.device,
            on_epoch=lambda: progress.advance(bar),
        )
    labels = class_labels(len(data.classes), options.ipc)
    info = replace(
        told_by_data(data, labels, settings.recipe()),
        method=options.baseline,
        network=probe.network,
        settings={
            "lam": {"value": 0.0, "source": "nothing is distilled"},
            "seed": {"value": options.seed, "source": YOUR_CHOICE},
        },
    )
    images = data.normalize(data.train.images[index]).cpu()
    pixels = None if data.whitening is None else data.whitening.undo(images)
    synthetic = SyntheticSet(images, labels, info, pixels)
    if accelerator.is_main_process:
        synthetic.save(out)
    console.print(summary(synthetic, "last"))
    console.print(f"set and picture: {out}")

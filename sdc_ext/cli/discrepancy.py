"""``sdc-ext discrepancy``: how far sets are from the real data, beside random real images."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.progress import Progress

from sdc_ext._files import write_table, write_whole
from sdc_ext.cli.folders import check_free, claim_folder
from sdc_ext.cli.options import add_settings, chosen_settings, listed, parse_seed
from sdc_ext.cli.sets import SET_HELP, add_set_data, open_all
from sdc_ext.errors import check_choice
from sdc_ext.evaluation.closeness import (
    SPACES,
    Closeness,
    check_sizes,
    compare_with_real,
    feature_maps,
)
from sdc_ext.evaluation.discrepancies import DISCREPANCIES, choose_discrepancies
from sdc_ext.networks.create import check_network
from sdc_ext.report.figures import draw_closeness
from sdc_ext.report.tables import closeness_table
from sdc_ext.training.probe import Probe
from sdc_ext.verbs.session import make_accelerator, make_console


def add_options(parser: ArgumentParser) -> None:
    """Adds the options of the command to its parser."""
    parser.add_argument("sets", type=Path, nargs="+", metavar="SET", help=SET_HELP)
    add_set_data(parser)
    parser.add_argument(
        "--measures",
        help="comma-separated: mmd-linear, mmd-gaussian, mmd-laplacian, mmd-polynomial, energy, "
        "coverage (default: these); with sdc-ext[ot] sliced, wasserstein, sinkhorn-0.5, "
        "sinkhorn-0.1",
    )
    parser.add_argument(
        "--spaces",
        default="pixels,random,trained",
        help="comma-separated: pixels, and features of random and trained networks (default: all)",
    )
    parser.add_argument("--draws", type=int, default=20, help="random sets (default 20)")
    parser.add_argument(
        "--max-real",
        type=int,
        default=2000,
        help="real images to compare with at most, of a class and of all (default 2000)",
    )
    parser.add_argument("--seed", type=parse_seed, default=0, help="of all of it (default 0)")
    parser.add_argument("--out", type=Path, help="folder of the table and the chart")
    add_settings(parser.add_argument_group("the networks of features"), Probe)
    parser.set_defaults(run=_discrepancy)


def _discrepancy(options: Namespace) -> None:
    check_sizes(options.draws, options.max_real)
    measures = choose_discrepancies(listed(options.measures or ",".join(DISCREPANCIES)))
    spaces = [check_choice("space", space, SPACES) for space in listed(options.spaces)]
    check_free(options.out)
    accelerator = make_accelerator()
    console = make_console(accelerator)
    opened = list(open_all(options, accelerator))
    # One network for all, or columns could not be compared.
    chosen = {"network": opened[0][1].info.eval_network, **chosen_settings(options)}
    probe = Probe(**chosen)
    for data in (data for _, _, data in opened):
        check_network(probe.network, *data.network_shape)
    out = Path()
    if accelerator.is_main_process:
        out = claim_folder(options.out, "discrepancy", options.sets)
    by_data = {data.identity: data for _, _, data in opened}
    steps = sum(1 + len(data.classes) for _, _, data in opened)
    epochs = probe.train_epochs * len(by_data) if "trained" in spaces else 0
    results: dict[str, list[Closeness]] = {}
    with Progress(console=console, disable=not accelerator.is_main_process) as progress:
        bar = progress.add_task(f"training {probe.network}", total=steps + epochs)
        maps = {
            identity: feature_maps(
                *(spaces, data, probe),
                seed=options.seed,
                device=accelerator.device,
                on_epoch=lambda: progress.advance(bar),
            )
            for identity, data in by_data.items()
        }
        for name, synthetic, data in opened:
            progress.update(bar, description=name)
            results[name] = compare_with_real(
                *(synthetic, data, maps[data.identity], measures),
                draws=options.draws,
                seed=options.seed,
                max_real=options.max_real,
                on_group=lambda: progress.advance(bar),
            )
            if accelerator.is_main_process:
                _write(results, probe.network, options.seed, out)
    console.print(closeness_table(results))
    console.print(
        f"{options.draws} draws of random images; compared with training images, at most "
        f"{options.max_real} at random; networks: {probe.network}"
    )
    console.print(f"discrepancies.csv and discrepancies.png in {out}")


def _write(results: Mapping[str, Sequence[Closeness]], network: str, seed: int, out: Path) -> None:
    rows = [
        {
            "set": name,
            "space": row.space,
            "measure": row.measure,
            "images": row.images,
            "network": "" if row.space == "pixels" else network,
            "seed": seed,
            "real": row.real,
            "synthetic": row.synthetic,
            "draws": len(row.random),
            "value": row.value,
            "random_mean": row.random_mean,
            "random_std": row.random_std,
            "ratio": row.ratio,
        }
        for name, of_set in results.items()
        for row in of_set
    ]
    write_table(rows, out / "discrepancies.csv")
    write_whole(out / "discrepancies.png", lambda path: draw_closeness(results, path))

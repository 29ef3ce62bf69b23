"""``sdc-ext experts``: train and store expert trajectories."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import replace
from pathlib import Path

from sdc_ext.adapters import METHODS, find_method, get_method
from sdc_ext.adapters.settings import resolve
from sdc_ext.cli.data import load_chosen_data
from sdc_ext.cli.options import add_data, add_settings, chosen_settings, parse_seed
from sdc_ext.engine.experts import export_store, train_store
from sdc_ext.errors import InputError, check_positive
from sdc_ext.experts.replay_buffers import check_export
from sdc_ext.experts.train import ExpertRecipe
from sdc_ext.report.tables import expert_table
from sdc_ext.verbs.session import make_accelerator, make_console, prepare_data


def add_options(parser: ArgumentParser) -> None:
    """Adds the options of the command to its parser."""
    parser.add_argument("method", metavar="METHOD", help="whose: mtt, ftd, tesla or datm")
    add_data(parser, "digits", "digits")
    parser.add_argument("--num-experts", type=int, default=100, help="how many (default 100)")
    parser.add_argument("--network", help="default: the method's for these data")
    parser.add_argument(
        "--ipc", type=int, default=1, help="of their distillation: recipes differ by it (default 1)"
    )
    parser.add_argument("--zca", action="store_true", default=None, help="ZCA-whiten the images")
    parser.add_argument("--no-zca", action="store_false", dest="zca", help="do not")
    parser.add_argument("--seed", type=parse_seed, default=0, help="of everything random")
    parser.add_argument("--out", type=Path, help="folder (default: where distill looks for them)")
    parser.add_argument("--export", type=Path, help="folder for the originals' replay_buffer_*.pt")
    group = parser.add_argument_group("training, by default the method's original's")
    add_settings(group, ExpertRecipe)
    parser.set_defaults(run=_run)


def _run(options: Namespace) -> None:
    method = get_method(options.method)
    if method.experts is None:
        found = {name: find_method(name) for name in METHODS.names()}
        matching = ", ".join(name for name, m in found.items() if m is not None and m.experts)
        raise InputError(f"{method.name} matches no experts: choose from {matching}")
    check_positive(options, "num_experts")
    chosen = {"network": options.network, "zca": options.zca}
    overrides = {name: value for name, value in chosen.items() if value is not None}
    run = resolve(method, options.dataset, options.ipc, overrides).run
    recipe = replace(method.experts(options.dataset, options.ipc), **chosen_settings(options))
    accelerator = make_accelerator()
    console = make_console(accelerator)
    data = prepare_data(load_chosen_data(options, accelerator), run, accelerator)
    console.print(data.describe())
    if options.export is not None:
        check_export(options.export)
    store = train_store(
        data,
        run.network,
        recipe,
        num_experts=options.num_experts,
        seed=options.seed,
        accelerator=accelerator,
        console=console,
        folder=options.out,
    )
    console.print(expert_table(store))
    if options.export is not None and accelerator.is_main_process:
        for path in export_store(store, data, options.export):
            console.print(str(path))

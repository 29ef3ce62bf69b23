"""``sdc-ext experts``, and the experts of a distillation."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdc_ext.cli.common import (
    add_data,
    add_settings,
    chosen_settings,
    data_label,
    load_chosen_data,
    make_accelerator,
    make_console,
    parse_seed,
)
from sdc_ext.errors import InputError, check_positive

if TYPE_CHECKING:
    from accelerate import Accelerator
    from rich.console import Console
    from torch import nn

    from sdc_ext.adapters.base import Method
    from sdc_ext.adapters.settings import Settings
    from sdc_ext.adapters.task import Task
    from sdc_ext.data.real import RealData
    from sdc_ext.experts.base import Experts
    from sdc_ext.experts.store import ExpertInfo, ExpertStore
    from sdc_ext.experts.train import ExpertRecipe

# Where experts are kept, unless the user says otherwise.
EXPERTS = Path("experts")

# What a distillation trains where there are none.
_FEW_EXPERTS = 5


def add_experts(commands: Any, given: Sequence[str]) -> None:
    parser = commands.add_parser("experts", help="train and store expert trajectories")
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
    if given[:1] == ["experts"]:
        from sdc_ext.experts.train import ExpertRecipe

        group = parser.add_argument_group("training, by default the method's original's")
        add_settings(group, ExpertRecipe)
    parser.set_defaults(run=_run)


def _run(options: Namespace) -> None:
    from sdc_ext.adapters import METHODS, get_method
    from sdc_ext.adapters.settings import resolve
    from sdc_ext.experts.replay_buffers import check_export
    from sdc_ext.experts.store import ExpertInfo
    from sdc_ext.report.tables import expert_table

    method = get_method(options.method)
    if method.experts is None:
        matching = ", ".join(name for name, m in METHODS.items() if m.experts is not None)
        raise InputError(f"{method.name} matches no experts: choose from {matching}")
    check_positive(options, "num_experts")
    chosen = {"network": options.network, "zca": options.zca}
    overrides = {name: value for name, value in chosen.items() if value is not None}
    run = resolve(method, options.dataset, options.ipc, overrides).run
    recipe = replace(method.experts(options.dataset, options.ipc), **chosen_settings(options))
    accelerator = make_accelerator("no", None, Path("."))
    console = make_console(accelerator)
    data = load_chosen_data(options, accelerator, run)
    console.print(data.describe())
    model = _model(data, run.network)
    info = ExpertInfo.of(data, run.network, model, asdict(recipe), options.seed)
    if options.export is not None:
        check_export(options.export)
    name = _folder_name(data_label(options), run.network, run.zca, recipe)
    folder = options.out or EXPERTS / name
    store = _train(folder, info, data, recipe, options.num_experts, accelerator, console)
    console.print(expert_table(store))
    if options.export is not None and accelerator.is_main_process:
        for path in store.export(options.export, [p.shape for p in model.parameters()]):
            console.print(str(path))


def experts_for_run(
    options: Namespace,
    method: Method,
    settings: Settings,
    task: Task,
    console: Console,
    root: Path = EXPERTS,
) -> Experts:
    """The experts in ``--experts`` or their usual folder; a few are trained if there are none.

    Args:
        options: of the command.
        method: what matches them.
        settings: of the run.
        task: its data, ipc and network.
        console: where to report.
        root: what the usual folders are in.

    Raises:
        InputError: if they were made for something else.
    """
    from sdc_ext.experts.store import ExpertInfo, open_experts

    if method.experts is None:
        raise InputError(f"{method.name} matches no experts: leave --experts out")
    network = settings.run.network
    model = _model(task.data, network)
    recipe = replace(
        method.experts(task.data.name, task.ipc), train_epochs=settings.loop.epochs_needed
    )
    wanted = ExpertInfo.of(task.data, network, model, asdict(recipe), options.seed)
    usual = root / _folder_name(data_label(options), network, settings.run.zca, recipe)
    folder = options.experts or usual
    if options.experts is None and not folder.exists():
        few = f"{recipe.train_epochs}epochs-seed{options.seed}"
        folder = folder.with_name(f"{folder.name}-{few}")
        console.print(
            f"{_FEW_EXPERTS} experts are trained in {folder}, unless they are there; sdc-ext "
            f"experts {method.name} trains more, and for longer"
        )
        _train(folder, wanted, task.data, recipe, _FEW_EXPERTS, task.accelerator, console)
    experts = open_experts(folder, wanted, model)
    console.print(experts.description)
    return experts


def _train(
    folder: Path,
    info: ExpertInfo,
    data: RealData,
    recipe: ExpertRecipe,
    num_experts: int,
    accelerator: Accelerator,
    console: Console,
) -> ExpertStore:
    from rich.progress import Progress

    from sdc_ext.experts.store import ExpertStore
    from sdc_ext.experts.train import train_experts

    accelerator.wait_for_everyone()  # nobody may still be looking whether there is a folder
    with accelerator.main_process_first():
        store = ExpertStore.create(folder, info)
    mine = range(num_experts)[accelerator.process_index :: accelerator.num_processes]
    done = sum(store.has(k) for k in mine)
    if 0 < len(store) < num_experts:
        console.print(f"{len(store)} of {num_experts} experts are there already")
    with Progress(console=console, disable=not accelerator.is_main_process) as progress:
        bar = progress.add_task("expert epochs", total=len(mine) * recipe.train_epochs)
        progress.advance(bar, done * recipe.train_epochs)
        train_experts(
            store,
            data,
            info.network,
            recipe,
            num_experts=num_experts,
            seed=info.seed,
            accelerator=accelerator,
            on_epoch=lambda: progress.advance(bar),
        )
    return ExpertStore.open(folder)


def _model(data: RealData, network: str) -> nn.Module:
    from sdc_ext.networks.create import create_network

    return create_network(network, data.channels, len(data.classes), data.image_size)


def _folder_name(label: str, network: str, zca: bool, recipe: ExpertRecipe) -> str:
    return "-".join([label, *network.replace("=", "").split(":"), *["zca"] * zca, recipe.label])

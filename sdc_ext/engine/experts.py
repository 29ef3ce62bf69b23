"""The experts of a run: found in a folder, or trained there."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

from accelerate import Accelerator
from rich.console import Console
from rich.progress import Progress
from torch import nn

from sdc_ext.adapters.base import Method
from sdc_ext.adapters.settings import Settings
from sdc_ext.adapters.task import Task
from sdc_ext.data.real import RealData
from sdc_ext.errors import InputError
from sdc_ext.experts.store import ExpertInfo, ExpertStore, open_experts
from sdc_ext.experts.train import ExpertRecipe, fill_store
from sdc_ext.networks.create import create_network

# Where experts are kept, unless the user says otherwise.
EXPERTS = Path("experts")

# How many a distillation trains where there are none.
_FEW_EXPERTS = 5


def with_experts(
    method: Method,
    settings: Settings,
    task: Task,
    *,
    seed: int,
    console: Console,
    folder: str | Path | None = None,
    root: Path = EXPERTS,
) -> Task:
    """The same task with the experts that its method matches, if it matches any.

    Where there are none yet, a few are trained.

    Args:
        method: The method of the run.
        settings: The settings of the run.
        task: Its data, ipc and network.
        seed: Seeds the experts that are trained.
        console: Where to report.
        folder: The experts' folder, ours or one with ``replay_buffer_*.pt``; by default the usual
            one for these data, network and recipe in ``root``.
        root: What the usual folders lie in.

    Raises:
        InputError: If a folder is given and the method matches no experts, or they were made for
            something else.
    """
    if method.experts is None:
        if folder is None:
            return task
        raise InputError(f"{method.name} matches no experts: leave --experts out")
    network = settings.run.network
    model = _model(task.data, network)
    recipe = replace(
        method.experts(task.data.name, task.ipc), train_epochs=settings.loop.epochs_needed
    )
    wanted = ExpertInfo.of(task.data, network, model, asdict(recipe), seed)
    usual = root / _folder_name(task.data.label, network, settings.run.zca, recipe)
    chosen = usual if folder is None else Path(folder)
    if folder is None and not chosen.exists():
        few = f"{recipe.train_epochs}epochs-seed{seed}"
        chosen = chosen.with_name(f"{chosen.name}-{few}")
        console.print(
            f"{_FEW_EXPERTS} experts are trained in {chosen}, unless they are there; sdc-ext "
            f"experts {method.name} trains more, and for longer"
        )
        _train(chosen, wanted, task.data, recipe, _FEW_EXPERTS, task.accelerator, console)
    experts = open_experts(chosen, wanted, model)
    console.print(experts.description)
    return replace(task, experts=experts)


def train_store(
    data: RealData,
    network: str,
    recipe: ExpertRecipe,
    *,
    num_experts: int,
    seed: int,
    accelerator: Accelerator,
    console: Console,
    folder: Path | None = None,
) -> ExpertStore:
    """Trains experts, or those that are missing, and stores them.

    Args:
        data: The real data, normalised as the distillation normalises them.
        network: The network; see [`create_network`][sdc_ext.networks.create_network].
        recipe: How to train.
        num_experts: How many the store is to hold.
        seed: Seeds all of them; expert k is the same whichever process trains it.
        accelerator: Where to run.
        console: Where to report.
        folder: The store's folder; by default the one in which distillations look.

    Raises:
        InputError: If the folder holds experts that were made for something else.
    """
    info = ExpertInfo.of(data, network, _model(data, network), asdict(recipe), seed)
    zca = data.whitened_by is not None
    usual = EXPERTS / _folder_name(data.label, network, zca, recipe)
    return _train(folder or usual, info, data, recipe, num_experts, accelerator, console)


def export_store(store: ExpertStore, data: RealData, folder: Path) -> list[Path]:
    """Writes a store's experts as the originals' ``replay_buffer_*.pt``."""
    model = _model(data, store.info.network)
    return store.export(folder, [parameter.shape for parameter in model.parameters()])


def _train(
    folder: Path,
    info: ExpertInfo,
    data: RealData,
    recipe: ExpertRecipe,
    num_experts: int,
    accelerator: Accelerator,
    console: Console,
) -> ExpertStore:
    accelerator.wait_for_everyone()  # nobody may still be looking whether there is a folder
    with accelerator.main_process_first():
        store = ExpertStore.create(folder, info)
    mine = range(num_experts)[accelerator.process_index :: accelerator.num_processes]
    done = sum(store.has(k) for k in mine)
    if 0 < len(store) < num_experts:
        console.print(f"{len(store)} of {num_experts} experts are there already")
    with Progress(console=console, disable=console.quiet) as progress:
        bar = progress.add_task("expert epochs", total=len(mine) * recipe.train_epochs)
        progress.advance(bar, done * recipe.train_epochs)
        fill_store(
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
    return create_network(network, *data.network_shape)


def _folder_name(label: str, network: str, zca: bool, recipe: ExpertRecipe) -> str:
    return "-".join([label, *network.replace("=", "").split(":"), *["zca"] * zca, recipe.label])

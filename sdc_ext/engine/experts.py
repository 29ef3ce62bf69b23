"""Providing a run with expert trajectories, which are found in a folder or trained there."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import torch
from accelerate import Accelerator
from rich.console import Console
from torch import nn

from sdc_ext._console import make_progress
from sdc_ext.adapters.base import Method
from sdc_ext.adapters.settings import Settings
from sdc_ext.adapters.task import Task
from sdc_ext.data.real import RealData
from sdc_ext.errors import InputError
from sdc_ext.experts.base import Experts
from sdc_ext.experts.pool import ExpertPool, find_experts
from sdc_ext.experts.recipe import ExpertRecipe
from sdc_ext.experts.store import ExpertInfo, ExpertStore, open_experts
from sdc_ext.experts.train import fill_store
from sdc_ext.networks.create import create_network
from sdc_ext.workers.pool import SERIAL, Workers

# The default folder of all experts.
EXPERTS = Path("experts")

# How many experts a distillation trains if it finds none.
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
    workers: Workers = SERIAL,
) -> Task:
    """Returns the task with the experts that its method matches, if it matches any.

    If no folder is given and the usual one does not exist, a few experts are trained.

    Args:
        method: The method of the run.
        settings: The settings of the run.
        task: The task without experts.
        seed: Seeds the experts that are trained.
        console: The console for messages and progress.
        folder: A folder of experts in the library's format or with ``replay_buffer_*.pt``; for a
            pool of networks, a folder with one such subfolder for each. By default it is the
            usual folder for these data, network and recipe in ``root``.
        root: The folder that contains the usual folders.
        workers: The workers that train experts side by side.

    Raises:
        InputError: If a folder is given although the method matches no experts, if the experts
            were trained for another data set, network or whitening, or if the network has random
            buffers, which experts do not store.
    """
    if method.experts is None:
        if folder is None:
            return task
        raise InputError(f"{method.name} matches no experts: leave `experts` out")
    recipe = method.experts(task.data.name, task.ipc).suited_to(len(task.data.train))
    recipe = replace(recipe, train_epochs=settings.loop.epochs_needed)
    parts: list[Experts] = []
    for network in task.pool:
        model = _model(task.data, network)
        wanted = ExpertInfo.of(task.data, network, model, asdict(recipe), seed)
        if folder is None:
            usual = root / _folder_name(task.data, network, recipe)
            chosen = _usual_experts(method, task, usual, wanted, recipe, console, workers)
            parts.append(open_experts(chosen, wanted, model))
        elif len(task.pool) == 1:
            parts.append(open_experts(folder, wanted, model))
        else:
            parts.append(find_experts(folder, wanted, model))
    experts = parts[0] if len(parts) == 1 else ExpertPool(parts)
    console.print(experts.description)
    return replace(task, experts=experts)


def _usual_experts(
    method: Method,
    task: Task,
    usual: Path,
    wanted: ExpertInfo,
    recipe: ExpertRecipe,
    console: Console,
    workers: Workers,
) -> Path:
    """Returns the usual folder of experts or, without it, one in which a few are trained."""
    if usual.exists():
        return usual
    short = f"{recipe.train_epochs}epochs-seed{wanted.seed}"
    chosen = usual.with_name(f"{usual.name}-{short}")
    console.print(
        f"found no experts in {usual}: training {_FEW_EXPERTS} in {chosen}, unless they are "
        f"there already; sdc-ext experts {method.name} trains more of them, for longer"
    )
    train_store(
        task.data,
        wanted.network,
        recipe,
        num_experts=_FEW_EXPERTS,
        seed=wanted.seed,
        accelerator=task.accelerator,
        console=console,
        folder=chosen,
        workers=workers,
    )
    return chosen


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
    workers: Workers = SERIAL,
) -> ExpertStore:
    """Trains the experts that a store still lacks.

    Args:
        data: The real data, normalised as the distillation normalises them.
        network: The architecture; see [`create_network`][sdc_ext.networks.create_network].
        recipe: The recipe by which experts are trained.
        num_experts: The number of experts in the complete store.
        seed: Seeds all experts; expert k does not depend on the process that trains it.
        accelerator: The device and the processes to run on.
        console: The console for messages and progress.
        folder: The folder of the store; by default the one that distillations use.
        workers: The workers that train experts side by side.

    Raises:
        InputError: If the folder holds experts for another data set, network or recipe, or the
            network has random buffers.
    """
    info = ExpertInfo.of(data, network, _model(data, network), asdict(recipe), seed)
    folder = folder or EXPERTS / _folder_name(data, network, recipe)
    accelerator.wait_for_everyone()  # another process may still be checking for the folder
    with accelerator.main_process_first():
        store = ExpertStore.create(folder, info)
    mine = range(num_experts)[accelerator.process_index :: accelerator.num_processes]
    done = sum(store.has(k) for k in mine)
    if 0 < len(store) < num_experts:
        console.print(f"found {len(store)} of {num_experts} experts")
    with make_progress(console) as progress:
        bar = progress.add_task("expert epochs", total=len(mine) * recipe.train_epochs)
        progress.advance(bar, done * recipe.train_epochs)
        fill_store(
            store,
            data,
            network,
            recipe,
            num_experts=num_experts,
            seed=seed,
            accelerator=accelerator,
            workers=workers,
            on_epoch=lambda: progress.advance(bar),
            say=console.print,
        )
    return ExpertStore.open(folder)


def export_store(store: ExpertStore, data: RealData, folder: Path) -> list[Path]:
    """Writes the experts of a store as ``replay_buffer_*.pt``, as the original repositories do.

    Args:
        store: The store.
        data: The real data of the store.
        folder: The folder to write to.

    Returns:
        The files that were written.
    """
    model = _model(data, store.info.network)
    return store.export(folder, [parameter.shape for parameter in model.parameters()])


def _model(data: RealData, network: str) -> nn.Module:
    """Returns a network of which experts can be stored, since all that is random is parameters."""
    model = create_network(network, *data.network_shape)
    with torch.random.fork_rng(devices=[]):
        buffers = dict(create_network(network, *data.network_shape).named_buffers())
    for name, buffer in model.named_buffers():
        if not torch.equal(buffer, buffers[name]):
            raise InputError(
                f"network {network!r} has a random buffer {name}, which experts do not store: "
                "make it a parameter with requires_grad=False"
            )
    return model


def _folder_name(data: RealData, network: str, recipe: ExpertRecipe) -> str:
    zca = ["zca"] * (data.whitened_by is not None)
    return "-".join([data.label, *network.replace("=", "").split(":"), *zca, recipe.label])

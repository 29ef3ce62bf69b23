"""The verb that trains expert trajectories for trajectory matching."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from sdc_ext._values import Count, Seed, checked
from sdc_ext.adapters import get_method, known_methods
from sdc_ext.augment.parse import check_augmentation
from sdc_ext.engine.experts import export_store, train_store
from sdc_ext.errors import InputError, check_choice
from sdc_ext.experts.recipe import ExpertRecipe
from sdc_ext.experts.store import ExpertStore
from sdc_ext.report.tables import expert_table
from sdc_ext.verbs.session import (
    check_export,
    check_start,
    chosen_settings,
    make_accelerator,
    make_console,
    open_data,
    prepare_data,
    resolve_for,
)
from sdc_ext.workers import choose_workers


@checked
def train_experts(
    method: str,
    data: Any = "digits",
    *,
    num_experts: Count = 100,
    ipc: Count = 1,
    network: str | Callable[..., Any] | None = None,
    zca: bool | None = None,
    out: str | Path | None = None,
    export: str | Path | None = None,
    seed: Seed = 0,
    workers: Any = 1,
    accelerator: Accelerator | None = None,
    progress: bool = True,
    **recipe: Any,
) -> ExpertStore:
    """Trains networks on the real data, and stores their parameters after every epoch.

    Experts that the folder already holds are kept, so the same call continues a stopped training.

    Args:
        method: The method that will match the experts: ``"mtt"``, ``"ftd"``, ``"tesla"`` or
            ``"datm"``.
        data: The real data, as [`distill`][sdc_ext.distill] takes them.
        num_experts: The number of experts in the complete store.
        ipc: The number of images per class of the later distillation; recipes depend on it.
        network: The architecture, as a name or a function; by default the method's choice for
            these data.
        zca: Whether to ZCA-whiten the images; by default as in the method's distillation.
        out: The folder of the store; by default the one in which ``distill`` looks.
        export: A folder to which the experts are also written as ``replay_buffer_*.pt``, the
            format of the original repositories.
        seed: Seeds all experts; expert k does not depend on the process that trains it.
        workers: The number of processes that train experts side by side, each with one thread, or
            an executor; see [`choose_workers`][sdc_ext.workers.choose_workers].
        accelerator: The Accelerator to run with; by default one that uses the machine's devices.
        progress: Show a progress bar and, at the end, the accuracy of the experts.
        **recipe: Settings of the training, e.g. ``train_epochs=50``; see
            [`ExpertRecipe`][sdc_ext.experts.ExpertRecipe].

    Returns:
        The store with all experts.

    Raises:
        InputError: If the method matches no experts, the folder holds experts for another data
            set, network or recipe, or ``export`` already holds replay buffers.
    """
    chosen = get_method(method)
    if chosen.experts is None:
        matching = ", ".join(m.name for m in known_methods() if m.experts is not None)
        raise InputError(f"{chosen.name} matches no experts: choose from {matching}")
    check_start(chosen, out)
    check_export(export)
    accelerator = accelerator or make_accelerator()
    side_by_side = choose_workers(workers, launched=accelerator.num_processes)
    console = make_console(accelerator, progress)
    loaded = open_data(data, accelerator)
    given = {"network": network, "zca": zca}
    overrides = chosen_settings({k: v for k, v in given.items() if v is not None})
    run = resolve_for(chosen, loaded, ipc, overrides).run
    for name in recipe:
        check_choice("setting of experts", name, [field.name for field in fields(ExpertRecipe)])
    how = replace(chosen.experts(loaded.name, ipc).suited_to(len(loaded.train)), **recipe)
    loaded = prepare_data(loaded, run, accelerator)
    check_augmentation(
        how.augmentation, loaded.few_images(), loaded.preprocessing, differentiable=False
    )
    console.print(str(loaded))
    store = train_store(
        loaded,
        run.network,
        how,
        num_experts=num_experts,
        seed=seed,
        accelerator=accelerator,
        console=console,
        folder=None if out is None else Path(out),
        workers=side_by_side,
    )
    console.print(expert_table(store))
    if export is not None and accelerator.is_main_process:
        for path in export_store(store, loaded, Path(export)):
            console.print(str(path))
    return store

"""The verb that chooses real images as a baseline for distillation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from accelerate import Accelerator

from sdc_ext._console import make_progress
from sdc_ext._values import Count, Factor, Seed, checked
from sdc_ext.adapters import get_method
from sdc_ext.errors import check_choice
from sdc_ext.evaluation.selection import BASELINES, selected_set
from sdc_ext.networks.create import check_network
from sdc_ext.sets.synthetic_set import SyntheticSet
from sdc_ext.verbs.session import (
    check_free,
    make_accelerator,
    make_console,
    make_probe,
    open_data,
    prepare_data,
    resolve_for,
)


@checked
def select_set(
    baseline: str,
    data: Any = "digits",
    *,
    ipc: Count = 1,
    factor: Factor = 1,
    like: str = "dc",
    out: str | Path | None = None,
    seed: Seed = 0,
    accelerator: Accelerator | None = None,
    progress: bool = True,
    **probe: Any,
) -> SyntheticSet:
    """Chooses real images and returns them in the form of a distilled set.

    Args:
        baseline: ``"random"``, ``"herding"``, ``"k-center"`` or ``"forgetting"``.
        data: The real data, as [`distill`][sdc_ext.distill] takes them.
        ipc: The number of stored images per class.
        factor: Shrinks ``factor ** 2`` real images into each stored one, as
            [`distill`][sdc_ext.distill] with this setting starts from real images.
        like: The method with whose sets the result will be compared; the images are normalised
            and evaluated as for this method.
        out: A folder for the set; by default the set is only returned.
        seed: Seeds the choice, and the network whose features or mistakes rank the images.
        accelerator: The Accelerator to run with; by default one that uses the machine's devices.
        progress: Show a progress bar.
        **probe: Settings of the training of that network, e.g. ``train_epochs=20``; see
            [`Probe`][sdc_ext.training.Probe].

    Returns:
        The set, with the baseline as its method.

    Raises:
        InputError: If the baseline or a setting is unknown, a class has too few images, the factor
            does not divide the images' height and width, or ``out`` exists.

    Reference: SDC paper, Tables 1 and 2.
    """
    check_choice("baseline", baseline, BASELINES)
    check_free(out)
    accelerator = accelerator or make_accelerator()
    console = make_console(accelerator, progress)
    loaded = open_data(data, accelerator)
    settings = resolve_for(get_method(like), loaded, ipc, {})
    looks_through = make_probe(settings.run.network, probe)
    loaded = prepare_data(loaded, settings.run, accelerator)
    check_network(looks_through.network, *loaded.network_shape)
    console.print(str(loaded))
    with make_progress(console) as bar:
        epochs = 0 if baseline == "random" else looks_through.train_epochs
        task = bar.add_task("ranking the real images", total=epochs)
        synthetic = selected_set(
            baseline,
            loaded,
            ipc,
            probe=looks_through,
            recipe=settings.recipe(),
            seed=seed,
            device=accelerator.device,
            factor=factor,
            on_epoch=lambda: bar.advance(task),
        )
    if out is not None and accelerator.is_main_process:
        synthetic.save(out)
    accelerator.wait_for_everyone()
    return synthetic

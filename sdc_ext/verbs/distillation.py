"""The verb that distils a data set into a few images per class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from sdc_ext._values import Count, Seed, checked
from sdc_ext.adapters import get_method
from sdc_ext.engine.callbacks import Callback, Trackers
from sdc_ext.engine.engine import Engine
from sdc_ext.engine.experts import with_experts
from sdc_ext.engine.progress import ShowProgress
from sdc_ext.engine.run_folder import RunFolder, held
from sdc_ext.report.tables import settings_table
from sdc_ext.sets.synthetic_set import SyntheticSet
from sdc_ext.strength import LogRamp
from sdc_ext.verbs.session import (
    check_start,
    chosen_settings,
    make_accelerator,
    make_console,
    set_up,
)
from sdc_ext.workers import choose_workers


@checked
def distill(
    method: str,
    data: Any = "digits",
    *,
    ipc: Count = 1,
    lam: float | LogRamp | None = None,
    out: str | Path | None = None,
    seed: Seed = 0,
    experts: str | Path | None = None,
    resume: bool = False,
    compile: bool = False,
    workers: Any = 1,
    accelerator: Accelerator | None = None,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
    **settings: Any,
) -> SyntheticSet:
    """Distils a data set into a few images per class, with Sample Difficulty Correction.

    Args:
        method: The method's name, e.g. ``"dc"``, ``"dsac"`` or ``"mtt"``.
        data: The data to distil: [`RealData`][sdc_ext.data.RealData], or anything that
            [`load_data`][sdc_ext.data.load_data] takes: a name, a folder, a data set of torch or of
            Hugging Face, or tensors.
        ipc: The number of images per class.
        lam: The weight of the correction, at least 0, or the ramp of adaptive SDC; 0 switches the
            correction off. The default is the value in the paper's tables for this method, data
            set and ipc, and 0.002 if they have none.
        out: The folder for the set; by default ``runs/METHOD-DATA-ipcN``.
        seed: Seeds everything; the same seed gives the same bits on the CPU of one machine.
        experts: A folder of expert trajectories, for the methods that match trajectories; for a
            pool of networks, a folder with one such subfolder for each network. By default they
            are looked up in ``experts/``, and a few are trained there if none exist.
        resume: Continue the run in ``out``, if there is one.
        compile: Compile the networks, which needs a C++ compiler.
        workers: The number of processes that train evaluation networks and experts side by side,
            each with one thread, or an executor; see
            [`choose_workers`][sdc_ext.workers.choose_workers].
        accelerator: The Accelerator to run with; by default one that uses the machine's devices.
        progress: Print the settings and a progress bar.
        callbacks: Callbacks to call after steps, evaluations and saves.
        **settings: Any setting of the method by its name, e.g. ``iterations=200``. ``network``
            and ``eval_network`` take a name or a function that returns a network; see
            [`register_network`][sdc_ext.networks.register_network]. A list as ``network`` is a
            pool, of which every outer iteration draws one network; evaluations during the run
            train the first one.

    Returns:
        The distilled set. It is also written to ``out``, with a picture and its history.

    Raises:
        InputError: If a method or setting is unknown, the data do not fit, ``out`` exists and does
            not hold this run to resume, or another command is writing to it.
        DivergenceError: If a loss is not finite; the last good set is in ``out``.

    Reference: SDC paper, Eq. 11 and 12.
    """
    chosen = get_method(method)
    check_start(chosen, out, experts)
    if out is not None:
        RunFolder(Path(out), {}).check(resume=resume)  # which run it holds is checked later
    accelerator = accelerator or make_accelerator()
    side_by_side = choose_workers(workers, launched=accelerator.num_processes)
    console = make_console(accelerator, progress)
    given = chosen_settings(settings, lam)
    resolved, task = set_up(chosen, data, ipc, given, accelerator, compile)
    folder = Path(out) if out else Path("runs") / f"{chosen.name}-{task.data.label}-ipc{ipc}"
    calls = (Trackers(accelerator), ShowProgress(console), *callbacks)
    engine = Engine(chosen, resolved, task, seed, folder, calls, workers=side_by_side)
    engine.check(resume=resume)  # before experts are trained
    console.print(str(task.data))
    console.print(settings_table(resolved))
    with held(folder, accelerator):
        task = with_experts(
            chosen,
            resolved,
            task,
            seed=seed,
            console=console,
            folder=experts,
            workers=side_by_side,
        )
        engine = replace(engine, task=task)
        kept = engine.kept() if resume else None
        if kept is None:
            return engine.distill(resume=resume)
        console.print(f"the run in {folder} is finished and is kept")
        return kept

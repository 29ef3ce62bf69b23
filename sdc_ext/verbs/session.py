"""Helpers that the verbs share: accelerator, console, data, settings."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from accelerate.utils import InitProcessGroupKwargs, LoggerType
from rich.console import Console

from sdc_ext._console import PlainConsole
from sdc_ext._files import check_place, is_free
from sdc_ext.adapters import Method, Settings, Task, resolve
from sdc_ext.adapters.run_settings import RunSettings
from sdc_ext.data.load import load_data, with_statistics
from sdc_ext.data.real import RealData
from sdc_ext.errors import InputError, check_choice
from sdc_ext.experts.replay_buffers import check_no_buffers
from sdc_ext.networks import network_name
from sdc_ext.strength import LogRamp
from sdc_ext.training.probe import Probe

# Arguments of load_data that people look for in the verbs.
_OF_DATA = {"data_dir", "test", "classes", "image_size", "background", "download"}


_NETWORKS = ("network", "eval_network")


def make_accelerator(
    mixed_precision: str = "no", tracker: str | None = None, out: Path = Path()
) -> Accelerator:
    """Returns an Accelerator that also works with several processes on CPUs.

    Args:
        mixed_precision: ``"no"`` or ``"bf16"``.
        tracker: The name of a tracker of Accelerate, e.g. ``"tensorboard"``, which writes to
            ``out/logs``.
        out: The folder of the run.

    Raises:
        InputError: If the tracker is unknown or not installed, or the device does not support the
            precision.
    """
    if tracker is not None:
        _check_tracker(tracker)
    try:
        return Accelerator(
            # Without this, processes on a machine without an accelerator do not find each other.
            cpu=not torch.accelerator.is_available(),
            mixed_precision=mixed_precision,
            log_with=tracker,
            project_dir=out / "logs",
            # Processes may wait for hours for each other's experts and evaluations.
            kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(days=1))],
        )
    except ValueError as error:
        raise InputError(f"mixed precision {mixed_precision}: {error}") from None


def _check_tracker(tracker: str) -> None:
    """Raises InputError unless Accelerate can log to a tracker."""
    installed = {t.value for t in get_available_trackers()}
    known = [t.value for t in LoggerType if t is not LoggerType.ALL]
    check_choice("tracker", tracker, known)
    if tracker not in installed:
        names = ", ".join(sorted(installed)) or "none"
        raise InputError(
            f"tracker {tracker!r} is not installed (installed: {names}): pip install {tracker}"
        )


def make_console(accelerator: Accelerator, progress: bool = True) -> Console:
    """Returns a console that prints in the main process only, and only if progress is wanted."""
    quiet = not (progress and accelerator.is_main_process)
    return PlainConsole(quiet=quiet, soft_wrap=True)


def open_data(source: Any, accelerator: Accelerator, **options: Any) -> RealData:
    """Returns real data as they are, or loads them.

    Args:
        source: [`RealData`][sdc_ext.data.RealData], or anything that
            [`load_data`][sdc_ext.data.load_data] takes.
        accelerator: The processes, one of which per machine downloads the data.
        **options: Further arguments for ``load_data``.

    Raises:
        InputError: If the data cannot be loaded, or are loaded already and an option is given.
    """
    if isinstance(source, RealData):
        for name in (name for name, value in options.items() if value not in (None, False)):
            raise InputError(f"these data are loaded already: pass `{name}` to load_data instead")
        return source
    with accelerator.local_main_process_first():  # one process downloads, the others find it
        return load_data(source, **options)


def prepare_data(data: RealData, run: RunSettings, accelerator: Accelerator) -> RealData:
    """Returns the real data with the normalisation that a run asks for."""
    with accelerator.local_main_process_first():  # one process fits the whitening
        if run.statistics != "own":
            data = with_statistics(data, run.statistics)
        return data.whitened() if run.zca else data


def chosen_settings(
    settings: Mapping[str, Any], lam: float | LogRamp | None = None
) -> dict[str, Any]:
    """Returns settings as plain values: a ramp as its numbers, a network as its name.

    Args:
        settings: Values by the name of the setting.
        lam: The weight of the correction or its ramp; None leaves it to the settings.

    Raises:
        InputError: If a name belongs to ``load_data``, or two different networks have the same
            name.
    """
    for name in sorted(_OF_DATA & set(settings)):
        raise InputError(f"{name} belongs to the data: pass data=load_data(..., {name}=...)")
    chosen = dict(settings) if lam is None else {**settings, "lam": lam}
    for name in ("lam", "share"):
        if isinstance(chosen.get(name), LogRamp):
            ramp = chosen.pop(name)
            chosen[f"{name}_ramp"] = (ramp.start, ramp.end, ramp.steps)
    given = {name: _several(chosen[name]) for name in _NETWORKS if name in chosen}
    network_names([one for pool in given.values() for one in pool])  # refuses two with one name
    return chosen | {name: ",".join(map(network_name, pool)) for name, pool in given.items()}


def resolve_for(method: Method, data: RealData, ipc: int, settings: Mapping[str, Any]) -> Settings:
    """Returns the settings of a run on data, whose name and size choose some of them."""
    return resolve(
        method, data.name, ipc, settings, images=len(data.train), image_size=data.image_size
    )


def check_compile(compile: bool, method: Method, *settings: Settings) -> None:
    """Raises InputError if compiling is asked for and has no effect with any of the settings."""
    if compile and not any(one.loop.compiles for one in settings):
        raise InputError(
            f"`compile` has no effect with these settings of {method.name}: leave it out"
        )


def set_up(
    method: Method,
    data: Any,
    ipc: int,
    settings: Mapping[str, Any],
    accelerator: Accelerator,
    compile: bool,
) -> tuple[Settings, Task]:
    """Returns the settings of a run and its task, still without experts."""
    loaded = open_data(data, accelerator)
    resolved = resolve_for(method, loaded, ipc, settings)
    check_compile(compile, method, resolved)
    loaded = prepare_data(loaded, resolved.run, accelerator)
    return resolved, Task(loaded, ipc, resolved.run.network, accelerator, compile)


def check_start(method: Method, out: str | Path | None, experts: str | Path | None = None) -> None:
    """Checks what can be checked before data are loaded.

    Args:
        method: The method.
        out: The folder of the results, which may exist.
        experts: The folder of the experts that the user has chosen.

    Raises:
        InputError: If the method matches no experts, or the folder cannot be written to.
    """
    if experts is not None and method.experts is None:
        raise InputError(f"{method.name} matches no experts: leave `experts` out")
    check_folder(out, "out")


def check_export(export: str | Path | None) -> None:
    """Raises InputError if a folder holds replay buffers already, or cannot be written to."""
    check_folder(export, "export")
    if export is not None:
        check_no_buffers(Path(export))


def check_folder(folder: str | Path | None, argument: str) -> None:
    """Raises InputError if a file is where a folder is wanted, or it cannot be written to."""
    if folder is None:
        return
    if Path(folder).exists() and not Path(folder).is_dir():
        raise InputError(f"{folder} is a file, not a folder: choose another `{argument}`")
    check_place(Path(folder))


def check_free(out: str | Path | None) -> None:
    """Raises InputError if the folder for the results exists, or cannot be written to."""
    if out is not None:
        _check_free(Path(out), is_free(Path(out)))


def check_free_file(file: Path | None) -> None:
    """Raises InputError if anything is where a file is to be, or it cannot be written."""
    if file is not None:
        _check_free(file, not os.path.lexists(file))


def _check_free(path: Path, free: bool) -> None:
    if not free:
        raise InputError(f"{path} exists: choose another `out`")
    check_place(path)


def refuse(settings: Mapping[str, Any], verb: str, **instead: str) -> None:
    """Raises InputError for settings that a verb chooses itself, and says what to do instead."""
    for name, what in instead.items():
        if name in settings:
            raise InputError(f"{verb} takes no {name}: {what}")


def make_probe(network: str, settings: Mapping[str, Any]) -> Probe:
    """Returns the training of a probe with some settings chosen by the user.

    Args:
        network: The default architecture.
        settings: Values by the name of a field of [`Probe`][sdc_ext.training.Probe].

    Raises:
        InputError: If a setting is unknown, or a value is out of range.
    """
    for name in settings:
        check_choice("setting of the probe", name, [field.name for field in fields(Probe)])
    return Probe(**{"network": network, **chosen_settings(settings)})


def network_names(
    networks: str | Callable[..., Any] | Sequence[str | Callable[..., Any]] | None,
) -> list[str] | None:
    """Returns the names of one network or several; None stays None.

    Raises:
        InputError: If two different networks have the same name.
    """
    if networks is None:
        return None
    by_name: dict[str, Any] = {}
    for network in _several(networks):
        name = network_name(network)
        if by_name.setdefault(name, network) != network:
            raise InputError(
                f"two different networks are called {name!r}: register them under different names "
                "with register_network"
            )
    return list(by_name)


def _several(
    networks: str | Callable[..., Any] | Sequence[str | Callable[..., Any]],
) -> Sequence[str | Callable[..., Any]]:
    if isinstance(networks, str) or callable(networks) or not isinstance(networks, Iterable):
        return [networks]
    return networks

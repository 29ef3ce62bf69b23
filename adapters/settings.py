"""Which value every setting of a run has, and where it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from sdc_ext.adapters.base import Loop, Method, RunSettings
from sdc_ext.augment import parse_augmentation
from sdc_ext.errors import InputError, check_choice, check_positive
from sdc_ext.regularizer import gradient_norm, with_sdc


@dataclass(frozen=True)
class Setting:
    """A value and its source."""

    value: Any
    source: str


@dataclass(frozen=True)
class Settings:
    """The resolved settings of a run.

    Attributes:
        loop: the method's loop with its hyper-parameters.
        run: the rest.
        origin: every setting by name, with its source, for printing and ``meta.json``.
    """

    loop: Loop
    run: RunSettings
    origin: Mapping[str, Setting]


def resolve(method: Method, dataset: str, ipc: int, overrides: Mapping[str, Any]) -> Settings:
    """Settles all settings: overrides, else the paper's and originals' rules, else defaults.

    Args:
        method: whose loop is configured.
        dataset: the data set's name.
        ipc: images per class.
        overrides: values by setting name, e.g. from the command line.

    Raises:
        InputError: for an unknown setting or a value that is out of range.
    """
    loop_names = [f.name for f in fields(method.loop)]
    run_names = [f.name for f in fields(RunSettings)]
    if {"lam", "lam_ramp"} <= set(overrides):
        raise InputError("lam and lam_ramp exclude each other: give one of them")
    for name in overrides:
        check_choice("setting", name, [*loop_names, *run_names])

    origin = {
        f.name: Setting(f.default, f.metadata["source"] or method.source)
        for f in (*fields(method.loop), *fields(RunSettings))
    }
    origin |= {name: Setting(value, method.source) for name, value in method.choices.items()}
    origin |= {name: Setting(*rule) for name, rule in method.rules(dataset, ipc).items()}
    origin |= {name: Setting(value, "your choice") for name, value in overrides.items()}
    for name, setting in _derived(origin, overrides).items():
        if name not in overrides:
            origin[name] = setting

    run = RunSettings(**{name: origin[name].value for name in run_names})
    _check(run)
    loop = method.loop(**{name: origin[name].value for name in loop_names})
    return Settings(loop, run, origin)


def _derived(origin: Mapping[str, Setting], overrides: Mapping[str, Any]) -> dict[str, Setting]:
    """Values that follow from others, as they do in the originals."""
    derived = {}
    augmentation = origin["eval_augmentation"]
    if "eval_augmentation" not in overrides and origin["dsa_strategy"].value != "none":
        augmentation = Setting(origin["dsa_strategy"].value, "as in distillation")
        derived["eval_augmentation"] = augmentation
    if augmentation.value != "none":
        derived["epoch_eval_train"] = Setting(1000, "originals, with augmentation")
    network = origin["network"].value
    derived["eval_network"] = Setting(network, "as in distillation")
    derived["lr_eval"] = Setting(origin["lr_net"].value, "as in distillation")
    if ":norm=batch" in network:
        # A synthetic set is too small for batch norm's statistics.
        without = network.replace(":norm=batch", "")
        derived["eval_network"] = Setting(without, "originals, batch norm replaced")
    iterations = origin["iterations"].value
    if origin["contrast"].value and iterations != RunSettings.iterations:
        warmup = Setting(iterations // 4, "sdc-ext: a quarter, as 250 of 1000")
        derived["outer_warmup"] = warmup
    return derived


def _check(run: RunSettings) -> None:
    check_positive(run, "iterations", "eval_every", "num_eval", "epoch_eval_train", "lr_eval")
    parse_augmentation(run.eval_augmentation)
    try:
        with_sdc(gradient_norm, run.schedule, norm=run.norm)
    except ValueError as error:
        raise InputError(str(error)) from None

"""Which value every setting of a run has, and where it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from sdc_ext._options import YOUR_CHOICE
from sdc_ext.adapters.base import Loop, Method
from sdc_ext.adapters.run_settings import RunSettings, Setting
from sdc_ext.augment.parse import parse_augmentation
from sdc_ext.errors import InputError, check_choice, check_positive
from sdc_ext.regularizer import gradient_norm, with_sdc
from sdc_ext.training.recipe import TrainingRecipe


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

    def recipe(self, lr: float | None = None) -> TrainingRecipe:
        """How networks are trained on the set, at the rate that was learnt, if one was."""
        run = self.run
        chose_rate = self.origin["lr_eval"].source == YOUR_CHOICE
        return TrainingRecipe(
            epochs=run.epoch_eval_train,
            lr=run.lr_eval if lr is None or chose_rate else lr,
            batch_size=run.batch_eval,
            augmentation=run.eval_augmentation,
            align_corners=self.loop.align_corners,
        )


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
        check_choice(f"setting of {method.name}", name, [*loop_names, *run_names])

    origin = {
        f.name: Setting(f.default, f.metadata["source"] or method.source)
        for f in (*fields(method.loop), *fields(RunSettings))
    }
    origin |= {name: Setting(value, method.source) for name, value in method.choices.items()}
    origin |= {name: Setting(*rule) for name, rule in method.rules(dataset, ipc).items()}
    origin |= {name: Setting(value, YOUR_CHOICE) for name, value in overrides.items()}
    for name, setting in method.loop.derived(origin, overrides).items():
        if name not in overrides:
            origin[name] = setting

    run = RunSettings(**{name: origin[name].value for name in run_names})
    _check(run)
    loop = method.loop(**{name: origin[name].value for name in loop_names})
    for name in sorted(loop.unused & set(overrides)):
        raise InputError(f"{name} has no effect with these settings of {method.name}: leave it out")
    return Settings(loop, run, origin)


def _check(run: RunSettings) -> None:
    check_positive(run, "iterations", "eval_every", "num_eval", "epoch_eval_train")
    check_positive(run, "lr_eval", "batch_eval")
    parse_augmentation(run.eval_augmentation)
    try:
        with_sdc(gradient_norm, run.schedule, norm=run.norm)
    except (TypeError, ValueError) as error:
        raise InputError(str(error)) from None

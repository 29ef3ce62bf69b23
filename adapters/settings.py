"""Resolving the settings of a run: the value of each setting and where it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from sdc_ext._options import YOUR_CHOICE
from sdc_ext._values import Count, check_value, check_values, plain
from sdc_ext.adapters.base import Loop, Method
from sdc_ext.adapters.methods import known_methods
from sdc_ext.adapters.run_settings import RunSettings, Setting
from sdc_ext.data.known import CLASS_COUNTS
from sdc_ext.errors import InputError, check_choice
from sdc_ext.strength import STRENGTHS
from sdc_ext.training.recipe import TrainingRecipe


@dataclass(frozen=True)
class Settings:
    """The resolved settings of a run.

    Attributes:
        loop: The method's loop with its hyper-parameters.
        run: The settings that all methods have.
        origin: Every setting by name, with its source, for printing and for ``meta.json``; values
            are plain, as JSON keeps them.
    """

    loop: Loop
    run: RunSettings
    origin: Mapping[str, Setting]

    def recipe(self, lr: float | None = None) -> TrainingRecipe:
        """Returns how evaluation networks are trained on the distilled set.

        Args:
            lr: The learning rate that was learnt with the set, if there is one; it is used unless
                the user has chosen ``lr_eval``.
        """
        run = self.run
        chose_rate = self.origin["lr_eval"].source == YOUR_CHOICE
        return TrainingRecipe(
            epochs=run.epoch_eval_train,
            lr=run.lr_eval if lr is None or chose_rate else lr,
            batch_size=run.batch_eval,
            augmentation=run.eval_augmentation,
            align_corners=self.loop.align_corners,
        )


# Fewer training images than this are few; the digits, for whose size the values are, have 1,347.
_FEW_IMAGES = 2000

# Images with fewer pixels per side are small: three blocks leave a single pixel of them.
_SMALL_IMAGE = 16


def resolve(
    method: Method,
    dataset: str,
    ipc: int,
    overrides: Mapping[str, Any],
    *,
    images: int | None = None,
    image_size: tuple[int, int] | None = None,
) -> Settings:
    """Resolves all settings of a run.

    A setting takes its value from the overrides, else from what other settings imply, else from
    the method's rules for the data set and ipc, else from the method's choices, else from the
    default.

    Args:
        method: The method to configure.
        dataset: The name of the data set.
        ipc: The number of images per class.
        overrides: Values by the name of the setting, e.g. from the command line.
        images: The number of training images; None if it is not known yet. Few images of the
            user's own have other defaults; our data sets keep the values of their name.
        image_size: The height and width of the images; None if they are not known yet. Small
            images of the user's own have other defaults, too.

    Raises:
        InputError: If a setting is unknown, has no effect, or is out of range.
    """
    loop_names = [f.name for f in fields(method.loop)]
    run_names = [f.name for f in fields(RunSettings)]
    check_value("ipc", ipc, Count)
    strengths = [f"`{name}`" for name in STRENGTHS if name in overrides]
    if len(strengths) > 1:
        raise InputError(f"{' and '.join(strengths)} exclude each other: set only one of them")
    for name in overrides:
        _check_name(name, method)

    origin = {
        f.name: Setting(f.default, f.metadata["source"] or method.source)
        for f in (*fields(method.loop), *fields(RunSettings))
    }
    layers = [
        {name: Setting(value, method.source) for name, value in method.choices.items()},
        {name: Setting(*rule) for name, rule in method.rules(dataset, ipc).items()},
        {} if dataset in CLASS_COUNTS else _suited(method, images, image_size),
        {name: Setting(value, YOUR_CHOICE) for name, value in overrides.items()},
    ]
    for layer in layers:
        _replace(origin, layer)
    fixed = {*overrides, *(STRENGTHS if strengths else ())}
    derived = method.loop.derived(origin, overrides).items()
    _replace(origin, {name: setting for name, setting in derived if name not in fixed})

    values = {name: setting.value for name, setting in origin.items()}
    run = RunSettings(**{name: values[name] for name in run_names})
    # Loops of others need not check their fields themselves.
    loop = method.loop(**check_values(method.loop, {name: values[name] for name in loop_names}))
    for name, reason in sorted(loop.unused.items()):
        if name in overrides:
            raise InputError(
                f"`{name}` has no effect with these settings of {method.name} ({reason}): leave it "
                "out"
            )
    used = {f.name: getattr(part, f.name) for part in (run, loop) for f in fields(part)}
    recorded = {n: replace(s, value=plain(used.get(n, s.value))) for n, s in origin.items()}
    return Settings(loop, run, recorded)


def _replace(origin: dict[str, Setting], values: Mapping[str, Setting]) -> None:
    """Replaces settings; a strength replaces whatever gave the strength before."""
    given = [values[name] for name in STRENGTHS if name in values]
    if any(setting.value is not None for setting in given):
        for name in ("lam_ramp", "share", "share_ramp"):
            if origin[name].value is not None:
                origin[name] = Setting(None, given[0].source)
    origin |= values


def _suited(
    method: Method, images: int | None, image_size: tuple[int, int] | None
) -> dict[str, Setting]:
    """Returns the values for data of the user that are few or small."""
    found: dict[str, Setting] = {}
    if image_size is not None and min(image_size) < _SMALL_IMAGE:
        small = f"sdc-ext, for images below {_SMALL_IMAGE} pixels"
        found |= {name: Setting(value, small) for name, value in method.small_images.items()}
    if images is not None and images < _FEW_IMAGES:
        few = f"sdc-ext, for fewer than {_FEW_IMAGES} images"
        found |= {name: Setting(value, few) for name, value in method.few_images.items()}
    return found


def _check_name(name: str, method: Method) -> None:
    """Raises InputError unless a method has a setting of this name."""

    def settings_of(method: Method) -> list[str]:
        return [f.name for f in (*fields(method.loop), *fields(RunSettings))]

    own = settings_of(method)
    others = [other.name for other in known_methods() if name in settings_of(other)]
    if name not in own and others:
        raise InputError(f"`{name}` is for {', '.join(others)}, not {method.name}: leave it out")
    check_choice(f"setting of {method.name}", name, own)

"""Reads arms and settings as users write them, and checks that arms can be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sdc_ext._kinds import Kind
from sdc_ext._values import allowed_in
from sdc_ext.adapters import Method
from sdc_ext.adapters.run_settings import RunSettings
from sdc_ext.errors import InputError
from sdc_ext.evaluation.arms import Arm
from sdc_ext.strength import DEFAULT_LAM
from sdc_ext.verbs.session import chosen_settings, refuse

# The values of lam that are compared unless others, or arms, are given.
LAMS = (0.0, DEFAULT_LAM)


def check_arms(
    seeds: int,
    *,
    lams: Sequence[float] | None = None,
    shares: Sequence[float] | None = None,
    arms: Sequence[Mapping[str, Any]] | None = None,
) -> list[Arm]:
    """Returns the arms of a comparison.

    Args:
        seeds: The number of runs per arm.
        lams: Values of lam, which are 0 and 0.002 if nothing is given.
        shares: Values of the share instead.
        arms: Settings by name instead.

    Raises:
        InputError: If more than one is given, two arms are equal, or there are too few arms or
            seeds.
    """
    given = {"lams": lams, "shares": shares, "arms": arms}
    chosen = [f"`{name}`" for name, values in given.items() if values is not None]
    if len(chosen) > 1:
        raise InputError(
            f"{' and '.join(chosen)} exclude each other in a comparison: put all of them into "
            "`arms`"
        )
    if arms is not None:
        found = [Arm.of(chosen_settings(_as_arm(arm))) for arm in arms]
    elif shares is not None:
        found = [Arm.of({"share": value}) for value in shares]
    else:
        found = [Arm.of({"lam": value}) for value in (LAMS if lams is None else lams)]
    if seeds < 2:
        raise InputError(f"a comparison needs at least 2 seeds, got {seeds}: add more")
    if len(found) < 2:
        named = found[0] if found else "none"
        raise InputError(f"a comparison needs at least 2 arms, got {named}: add another")
    _check_different(found)
    return found


def _check_different(arms: Sequence[Arm]) -> None:
    by_effect: dict[str, Arm] = {}
    for arm in arms:
        other = by_effect.setdefault(_effect(arm), arm)
        if other is not arm:
            digits = " to six digits" if other.is_lam and arm.is_lam else ""
            raise InputError(
                f"two arms are the same{digits} ({other}; {arm}): leave one of them out"
            )


def _effect(arm: Arm) -> str:
    """Returns the folder, which other settings do not have, with a share of 0 taken for lam 0."""
    values = arm.values
    if values.get("share") == 0:
        values = {name: value for name, value in values.items() if name != "share"} | {"lam": 0}
    return Arm.of(values).folder


def _as_arm(arm: Any) -> Mapping[str, Any]:
    """Returns an arm as it was given, if it is one."""
    if not isinstance(arm, Mapping) or not all(isinstance(name, str) for name in arm):
        raise InputError(f"an arm must be settings by name, as in {{'lam': 0.1}}, got {arm!r}")
    refuse(arm, "an arm", seed="pass `seeds`", ipc="all arms share it")
    return arm


def written_arm(text: str, method: Method) -> dict[str, Any]:
    """Reads an arm such as ``lam=0.002 norm=l2_squared`` by the kinds of a method's settings.

    Raises:
        InputError: If it is not written in this way, names a setting twice, or a value is not
            allowed.
    """
    written: dict[str, str] = {}
    for word in text.split():
        name, equals, value = word.partition("=")
        name = name.removeprefix("--").replace("-", "_")
        if not (name and equals) or name in written:
            raise InputError(
                f"an `arm` is written NAME=VALUE NAME=VALUE, each name once, got {text}"
            )
        written[name] = value
    return read_texts(written, method, "`arm`")


def read_texts(settings: Mapping[str, Any], method: Method, where: str) -> dict[str, Any]:
    """Returns settings with texts read by the kinds of their settings, e.g. ``1e-3`` in YAML.

    Args:
        settings: Values by the name of the setting; unknown names stay, to be refused with others.
        method: The method that has these settings.
        where: What messages call the place where they are written.

    Raises:
        InputError: If a text does not stand for an allowed value.
    """
    kinds = _kinds(method)
    return {
        name: kinds[name].read(f"{name} in {where}", value)
        if isinstance(value, str) and name in kinds
        else value
        for name, value in settings.items()
    }


def _kinds(method: Method) -> dict[str, Kind]:
    """Returns the kinds of a method's settings by name."""
    allowed = {**allowed_in(RunSettings), **allowed_in(method.loop)}
    return {name: one.kind for name, one in allowed.items()}

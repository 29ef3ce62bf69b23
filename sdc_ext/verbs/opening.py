"""Opening distilled sets in all the forms that verbs accept, together with their real data."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from accelerate import Accelerator

from sdc_ext._reading import each_once
from sdc_ext.data.real import RealData
from sdc_ext.errors import InputError
from sdc_ext.networks.create import check_network
from sdc_ext.sets.loading import (
    Load,
    Opening,
    load_data_of,
    open_with_data,
    short_names,
)
from sdc_ext.sets.sources import Source, file_of
from sdc_ext.sets.synthetic_set import SyntheticSet
from sdc_ext.training.probe import Probe
from sdc_ext.verbs.session import make_probe, open_data


class OpenedSet(NamedTuple):
    """A distilled set with its real data.

    Attributes:
        name: The name of the set in tables and figures.
        synthetic: The set.
        data: The real data, normalised as the set is.
    """

    name: str
    synthetic: SyntheticSet
    data: RealData


OneSet: TypeAlias = SyntheticSet | OpenedSet | str | Path
Sets: TypeAlias = OneSet | Mapping[str, OneSet] | Iterable[OneSet]


def open_sets(
    sets: Sets,
    data: Any,
    accelerator: Accelerator,
    *,
    lr: float | None = None,
    trained_on: bool = True,
) -> list[OpenedSet]:
    """Opens one set or several, each path once.

    Args:
        sets: A set, the path of a set, or several of them as a list or by name.
        data: The real data, as [`distill`][sdc_ext.distill] takes them; None loads the data of
            each set by their name.
        accelerator: The processes, one of which per machine downloads the data.
        lr: The learning rate for training on sets; by default the one that each set names.
        trained_on: Whether networks are trained on the sets, which needs a learning rate.

    Raises:
        InputError: If there is no set, a set cannot be read, or its data are not given and their
            name is not enough to load them.
    """
    real = None if data is None else open_data(data, accelerator)
    opening = Opening(lr=lr, trained_on=trained_on)

    @functools.cache
    def load(dataset: str, size: tuple[int, int] | None) -> RealData:
        try:
            return open_data(dataset, accelerator, image_size=size)
        except InputError as error:
            raise InputError(
                f"the name {dataset} alone is not enough to load the data ({error}): pass the real "
                f"data, e.g. data=load_data({dataset!r}, FOLDER)"
            ) from None

    return [_open(name, one, real, load, opening) for name, one in _named(sets)]


def _named(sets: Sets) -> Iterator[tuple[str, OneSet]]:
    if isinstance(sets, SyntheticSet | OpenedSet | str | Path):
        sets = [sets]
    several = sets if isinstance(sets, Mapping) else each_once(sets, file_of)
    if not several:
        raise InputError("got no sets: pass a distilled set, the path of one, or several of either")
    if isinstance(several, Mapping):
        yield from several.items()
        return
    paths = [Path(one) for one in several if isinstance(one, str | Path)]
    names = iter(short_names(paths) if paths else ())
    for k, one in enumerate(several):
        if isinstance(one, SyntheticSet):
            number = f" {k + 1}" if len(several) > 1 else ""
            yield f"{one.info.method}{number}", one
        else:
            yield (one.name if isinstance(one, OpenedSet) else next(names)), one


def _open(name: str, one: OneSet, real: RealData | None, load: Load, opening: Opening) -> OpenedSet:
    if isinstance(one, OpenedSet):
        return OpenedSet(name, _at_rate(one.synthetic, opening.lr), one.data)
    if real is None and not isinstance(one, SyntheticSet):
        return OpenedSet(name, *open_with_data(one, load, opening))
    if isinstance(one, SyntheticSet):
        one = _at_rate(one, opening.lr)
    else:
        one = Source.of(Path(one)).read(real, opening)
    data = load_data_of(one, name, load) if real is None else real
    return OpenedSet(name, one, one.adopt(data))


def _at_rate(synthetic: SyntheticSet, lr: float | None) -> SyntheticSet:
    """Returns the set with another learning rate for training on it, or as it is."""
    if lr is None:
        return synthetic
    recipe = replace(synthetic.info.evaluation, lr=lr)
    return replace(synthetic, info=replace(synthetic.info, evaluation=recipe))


def check_same_data(opened: Sequence[OpenedSet]) -> None:
    """Refuses sets whose values could not be compared, since their real data differ.

    Raises:
        InputError: If two sets are of different data, or data with other preprocessing.
    """
    first = opened[0]
    for one in opened:
        if one.data.identity != first.data.identity:
            raise InputError(
                f"{one.name} and {first.name} are not of the same real data with the same "
                "preprocessing: pass them in separate calls"
            )


def common_probe(opened: Sequence[OpenedSet], settings: Mapping[str, Any]) -> Probe:
    """Returns one probe for all sets, without which their values could not be compared.

    Args:
        opened: The sets, the first of which names the default architecture.
        settings: Values by the name of a field of [`Probe`][sdc_ext.training.Probe].

    Raises:
        InputError: If a setting is unknown, or the network does not fit the images of a set.
    """
    probe = make_probe(opened[0].synthetic.info.eval_network, settings)
    for one in opened:
        check_network(probe.network, *one.data.network_shape)
    return probe

"""Pools of networks: the architectures that one set is distilled for, of which a run draws."""

from __future__ import annotations

from sdc_ext.errors import InputError


def pool_of(networks: str) -> tuple[str, ...]:
    """Returns the names of the networks that a run distils with.

    Args:
        networks: One name, as [`create_network`][sdc_ext.networks.create_network] takes it, or
            several with commas between them, e.g. ``"convnet,mlp,convnet:norm=none"``.

    Raises:
        InputError: If a name is empty, or appears twice.
    """
    names = tuple(name.strip() for name in networks.split(","))
    for k, name in enumerate(names):
        if not name:
            raise InputError(
                f"`network` {networks!r} has an empty name: write one name, or several with a "
                "comma between two of them"
            )
        if name in names[:k]:
            raise InputError(f"`network` {networks!r} names {name} twice: name each network once")
    return names

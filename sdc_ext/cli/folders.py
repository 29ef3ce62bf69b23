"""The folders that commands write their results to."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from sdc_ext._files import claim
from sdc_ext.sets.loading import kind_of
from sdc_ext.verbs.session import check_free


def claim_folder(out: Path | None, name: str, sets: Sequence[Path] = ()) -> Path:
    """Makes a folder for results: ``out``, or a free one of this name.

    That is in a set of ours, beside a set in another format (with the name of the set in its own),
    and in ``runs`` for several sets.

    Raises:
        InputError: If ``out`` exists, or cannot be written to.
    """
    if out is not None:
        check_free(out)
        claim(out)
        return out
    parent = Path("runs")
    if len(sets) == 1:
        ours = kind_of(sets[0]) == "set"
        parent = sets[0] if ours else sets[0].parent
        name = name if ours else f"{name}-{sets[0].resolve().stem}"
    for free in itertools.chain([name], (f"{name}-{k}" for k in itertools.count(2))):
        try:
            claim(parent / free)
            return parent / free
        except FileExistsError:
            continue
    raise AssertionError("names never end")

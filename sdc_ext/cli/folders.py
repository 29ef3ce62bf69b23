"""The folders that commands write their results to."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from sdc_ext._files import claim
from sdc_ext.sets.loading import kind_of
from sdc_ext.verbs.session import check_free


def claim_folder(out: Path | None, name: str, sets: Sequence[Path] = ()) -> Path:
    """Makes a folder for results: ``out``, or a free one of this name in our set or in ``runs``.

    Raises:
        InputError: If ``out`` exists, or cannot be written to.
    """
    if out is not None:
        check_free(out)
        claim(out)
        return out
    parent = sets[0] if len(sets) == 1 and kind_of(sets[0]) == "set" else Path("runs")
    for free in itertools.chain([name], (f"{name}-{k}" for k in itertools.count(2))):
        try:
            claim(parent / free)
            return parent / free
        except FileExistsError:
            continue
    raise AssertionError("names never end")

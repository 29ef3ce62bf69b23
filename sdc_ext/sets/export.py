"""Exports distilled sets to the formats of other projects."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sdc_ext.sets.formats.best import write_best
from sdc_ext.sets.formats.dd_ranking import write_dd_ranking
from sdc_ext.sets.formats.original_names import original_name
from sdc_ext.sets.formats.pictures import write_picture_folder
from sdc_ext.sets.formats.res import write_res
from sdc_ext.sets.synthetic_set import SyntheticSet


def _write_res(synthetic: SyntheticSet, path: Path) -> None:
    write_res([synthetic], path)


FORMATS: dict[str, Callable[[SyntheticSet, Path], None]] = {
    "res": _write_res,
    "best": write_best,
    "pictures": write_picture_folder,
    "dd-ranking": write_dd_ranking,
}
"""The writers of the formats of ``sdc-ext export`` by name; each is given the set and a path."""


def default_name(synthetic: SyntheticSet, fmt: str) -> str:
    """Returns the default file or folder name of an export.

    Args:
        synthetic: The set.
        fmt: The format, one of ``FORMATS``.
    """
    res = original_name(synthetic.decoded().info)
    if fmt == "res":
        return res
    stem = f"{fmt}_{Path(res).stem.removeprefix('res_')}"
    return f"{stem}.pt" if fmt == "dd-ranking" else stem

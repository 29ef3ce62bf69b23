"""The folders that commands write their results to."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from accelerate import Accelerator

from sdc_ext._files import claim
from sdc_ext.sets.loading import format_of
from sdc_ext.verbs.session import check_free, make_console


class Saved(Protocol):
    """A result that prints, and writes itself to a folder."""

    def save(self, folder: Path) -> None:
        """Writes the result's files."""


def save_and_print(
    result: Saved,
    files: str,
    accelerator: Accelerator,
    out: Path | None,
    name: str,
    sets: Sequence[Path] = (),
) -> None:
    """Writes a result to a folder and prints it, on the main process, with the place of its files.

    Args:
        result: The result.
        files: What the folder holds, for the sentence about it.
        accelerator: The processes.
        out: See ``claim_folder``, as for the other arguments.
        name: The folder's name.
        sets: The sets that the result is about.

    Raises:
        InputError: If ``claim_folder`` raises it.
    """
    folder = Path()
    if accelerator.is_main_process:
        folder = claim_folder(out, name, sets)
        result.save(folder)
    console = make_console(accelerator)
    console.print(result)
    console.print(f"{files} in {folder}")


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
        ours = format_of(sets[0]) == "set"
        parent = sets[0] if ours else sets[0].parent
        name = name if ours else f"{name}-{sets[0].resolve().stem}"
    for free in itertools.chain([name], (f"{name}-{k}" for k in itertools.count(2))):
        try:
            claim(parent / free)
            return parent / free
        except FileExistsError:
            continue
    raise AssertionError("names never end")

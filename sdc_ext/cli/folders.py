"""The folders that commands write their results to."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from accelerate import Accelerator

from sdc_ext._files import claim
from sdc_ext.sets.sources import file_of, format_of
from sdc_ext.verbs.session import check_folder, check_free, make_console


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
    """Prints a result and writes it to a folder, on the main process, with the place of its files.

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
    console = make_console(accelerator)
    console.print(result)  # first, since it would be lost if the folder cannot be written
    if accelerator.is_main_process:
        folder = claim_folder(out, name, sets)
        result.save(folder)
        console.print(f"{files} in {folder}")


def check_results(out: Path | None, sets: Sequence[Path] = ()) -> None:
    """Raises InputError, before the work, if ``claim_folder`` could not make a folder after it."""
    check_free(out)
    parent, _ = _default("", sets)
    # What is no set is refused when it is opened.
    if out is None and (parent.is_dir() or _only(sets) is None):
        check_folder(parent, "out")


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
    parent, name = _default(name, sets)
    parent.mkdir(parents=True, exist_ok=True)  # else a file there looks like names that are taken
    for free in itertools.chain([name], (f"{name}-{k}" for k in itertools.count(2))):
        try:
            claim(parent / free)
            return parent / free
        except FileExistsError:
            continue
    raise AssertionError("names never end")


def _default(name: str, sets: Sequence[Path]) -> tuple[Path, str]:
    """Returns where ``claim_folder`` makes a folder by default, and the name that it has there."""
    one = _only(sets)
    if one is None:
        return Path("runs"), name
    return (one, name) if format_of(one) == "set" else (one.parent, f"{name}-{one.resolve().stem}")


def _only(sets: Sequence[Path]) -> Path | None:
    """Returns the first path if all lead to the same set."""
    different = {os.path.realpath(file_of(one)) for one in sets} if len(sets) > 1 else sets
    return sets[0] if len(different) == 1 else None

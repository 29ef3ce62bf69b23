r"""Tries ``sdc-ext run`` on published repositories that nobody has adapted.

    python benchmarks/zero_touch.py --csv docs/data/zero-touch.csv \
        --page docs/ways/repositories.md CHECKOUTS/*

Each folder is a checkout, named like its repository (``DREAM``) or with its owner
(``lyq312318224+DREAM``). What is run of it, and how small, is in ``zero_touch.yaml``. A script runs
in a copy of its checkout, once for each of these questions:

- Is it recognised, and does it start with the tool alone?
- Are the learnt tensors after three image steps the same with ``inject(0)`` as with repairs only?
- What does the correction add to the first image gradient, and what does a hand patch add: a few
  lines of plain torch in the copy? The two runs use float64 if the script can, else float32.
- How many seconds of CPU time does an image step take with the correction and without? Both take
  turns in one run, in shuffled order, and the ratio is the median over pairs.

The rows of these repositories take the place of those in the CSV file.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.console import Console
from zero_touch_rows import Row, merged, print_rows, read_rows, write_page, write_rows

HERE = Path(__file__).parent
STEPS, TURNS, LIMIT = 3, 8, 300
LAM = 1.0
ENVIRONMENT = {
    "PYTHONHASHSEED": "0",
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "WANDB_MODE": "disabled",
}


@dataclass(frozen=True)
class Recipe:
    """How a script of a repository is run.

    Attributes:
        repository: The owner and the name.
        script: The script, relative to the repository.
        arguments: The arguments that make it small.
        cwd: The folder that it runs in, relative to the repository.
        prepare: Command lines of scripts of the repository that run before, in this folder.
        files: Files that are written before, by their path in this folder.
        patch: The hand patch: a list of files, each with a pattern and lines that go after, or
            before, its first match, or every match.
        profile: The profile, where the recognised one is overruled.
        strict: Whether a loop that does not fit its profile is an error.
        scale: A factor of the term.
        images: The number of real images per class.
        double: Whether float64 is tried.
        note: A remark for the table.
        untried: Why the script is only read.
    """

    repository: str
    script: str = ""
    arguments: str = ""
    cwd: str = "."
    prepare: Sequence[str] = ()
    files: dict[str, str] = field(default_factory=dict)
    patch: Sequence[dict[str, Any]] = ()
    profile: str = "auto"
    strict: bool = True
    scale: float = 1.0
    images: int = 20
    double: bool = True
    note: str = ""
    untried: str = ""


class Trial:
    """The runs of one recipe, each in a copy of its own, since runs leave files behind.

    Args:
        recipe: The recipe.
        base: A copy of the checkout, which the others are copies of.
        place: A folder for the copies and for what is noted about each run.
    """

    def __init__(self, recipe: Recipe, base: Path, place: Path) -> None:
        self._recipe = recipe
        self._base = base
        self._place = place
        self._number = 0
        self.reason = ""

    def prepare(self) -> bool:
        """Writes files and runs the scripts that come before; returns whether that succeeded."""
        for name, text in self._recipe.files.items():
            path = self._base / self._recipe.cwd / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        for line in self._recipe.prepare:
            script, *arguments = shlex.split(line)
            if self._run(self._base, script, arguments, profile="none", steps=0)["status"]:
                return False
        return True

    def script(self, **job: Any) -> dict[str, Any]:
        """Runs the script; returns what the probe found."""
        arguments = shlex.split(self._recipe.arguments)
        copy = self._place / "copy" / self._base.name
        shutil.copytree(self._base, copy)
        job = {"profile": self._recipe.profile, **job}
        found = self._run(copy, self._recipe.script, arguments, **job)
        shutil.rmtree(copy.parent, ignore_errors=True)
        return found

    def _run(self, root: Path, script: str, arguments: Sequence[str], **job: Any) -> dict[str, Any]:
        """Runs a script in a process of its own; notes the reason if it fails."""
        self._number += 1
        place, folder = self._place / str(self._number), root / self._recipe.cwd
        is_file = script.endswith(".py")
        settings: dict[str, Any] = {
            "script": os.path.relpath(root / script, folder) if is_file else script,
            "folder": str(folder),
            "arguments": arguments,
            "lam": None,
            "strict": self._recipe.strict,
            "scale": self._recipe.scale,
            "steps": 1,
            "turns": 0,
            "first": None,
            "images": self._recipe.images,
            "double": False,
            "out": f"{place}.pickle",
        }
        Path(f"{place}.json").write_text(json.dumps({**settings, **job}))
        ended_well = self._execute(place, folder)
        found: dict[str, Any] = {"status": 1}
        if Path(f"{place}.pickle").exists():
            found = pickle.loads(Path(f"{place}.pickle").read_bytes())
        if not ended_well:
            found["status"] = found["status"] or 1
        self.reason = _last_error(Path(f"{place}.log").read_text()) if found["status"] else ""
        return found

    def _execute(self, place: Path, folder: Path) -> bool:
        """Runs the probe; returns whether its process ended well."""
        command = [sys.executable, str(HERE / "zero_touch_probe.py"), f"{place}.json"]
        with open(f"{place}.log", "w") as log:
            try:
                done = subprocess.run(
                    command,
                    cwd=folder,
                    env={**os.environ, **ENVIRONMENT},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    timeout=LIMIT,
                )
            except subprocess.TimeoutExpired:
                log.write(f"\nTimeoutError: no end after {LIMIT} s\n")
                return False
        return done.returncode == 0

    def patch(self) -> None:
        """Inserts the lines of the hand patch, indented like the lines that they come after."""
        for part in self._recipe.patch:
            path = self._base / part["file"]
            path.write_text(inserted(path.read_text(), part))


def inserted(text: str, part: dict[str, Any]) -> str:
    """Returns a text with lines inserted after, or before, the lines that a pattern is in."""
    where = part.get("after") or part["before"]
    new = part["insert"].replace("LAM", str(LAM)).rstrip().split("\n")
    lines: list[str] = []
    number = 0
    for line in text.split("\n"):
        space = line[: len(line) - len(line.lstrip())]
        found = re.search(where, line) is not None and (number == 0 or "every" in part)
        number += found
        added = [space + one for one in new] if found else []
        lines += [line, *added] if "after" in part else [*added, line]
    if not number:
        raise ValueError(f"{part['file']} has no line {where!r}")
    return "\n".join(lines)


def examine(recipe: Recipe, checkout: Path, logs: Path | None) -> Row:
    """Returns the row of a recipe; leaves what the runs printed in a folder of logs."""
    row = Row(recipe.repository, _commit(checkout), recipe.script, remark=recipe.note)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        base = place / "base" / checkout.name
        shutil.copytree(checkout, base, ignore=shutil.ignore_patterns(".git"))
        trial = Trial(recipe, base, place)
        if recipe.untried:
            _recognise(row, trial.script(steps=-1))
            row.remark = recipe.untried
        elif trial.prepare():
            _fill(row, recipe, trial)
        else:
            row.remark = f"preparation: {trial.reason}"
        if logs is not None:
            kept = logs / checkout.name / recipe.script.replace("/", "-")
            kept.mkdir(parents=True, exist_ok=True)
            for log in place.glob("*.log"):
                shutil.copy(log, kept)
    return row


def _recognise(row: Row, found: dict[str, Any]) -> None:
    """Adds what the tool reads from the source, and what its check says."""
    row.profile = found.get("profile", "")
    row.repairs = ", ".join(found.get("repairs", []))
    row.clear = "no" if found.get("check") else "yes"


def _fill(row: Row, recipe: Recipe, trial: Trial) -> None:
    observed = trial.script(lam=0.0, steps=STEPS)
    _recognise(row, observed)
    first = observed.get("first")
    if observed["status"]:
        row.remark = _joined(row.remark, trial.reason)
    plain = trial.script(steps=STEPS, first=first)
    row.starts = "yes" if plain.get("learnt") else "no"
    if not plain.get("learnt"):
        row.remark = _joined(row.remark, trial.reason)
    if not (plain.get("learnt") and observed.get("learnt") and observed["corrects"]):
        return
    row.identical = "yes" if _equal(plain["learnt"], observed["learnt"]) else "no"
    corrected = trial.script(lam=LAM, first=first, turns=TURNS)
    if "gradients" not in corrected:
        row.remark = _joined(row.remark, trial.reason)
        return
    _add_times(row, corrected["seconds"])
    if recipe.patch:
        _compare(row, recipe, trial, [plain["gradients"], corrected["gradients"]], first)


def _compare(
    row: Row, recipe: Recipe, trial: Trial, single: list[list[np.ndarray]], first: int | None
) -> None:
    """Adds how far the correction is from the hand patch, in float64 if the script can."""
    found = single
    if recipe.double:
        runs = [trial.script(lam=lam, first=first, double=True) for lam in (None, LAM)]
        double = [run["gradients"] for run in runs if "gradients" in run]
        found = double if len(double) == 2 and double[0][0].dtype == np.float64 else single
    is_double = found is not single
    try:
        trial.patch()
    except ValueError as error:
        row.remark = _joined(row.remark, f"hand patch: {error}")
        return
    patched = trial.script(first=first, double=is_double)
    if "gradients" not in patched:
        row.remark = _joined(row.remark, f"hand patch: {trial.reason}")
        return
    plain, tool, hand = (_flat(g) for g in (*found, patched["gradients"]))
    effect = np.linalg.norm(hand - plain)
    row.difference = f"{np.linalg.norm(tool - hand) / effect:.1e}"
    row.effect = f"{effect / np.linalg.norm(plain):.1e}"
    row.precision = "float64" if is_double else "float32"


def _flat(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([array.astype(np.float64).ravel() for array in arrays])


def _add_times(row: Row, seconds: Sequence[dict[bool, float]]) -> None:
    pairs = [pair for pair in seconds if len(pair) == 2]
    if pairs:
        row.seconds = f"{statistics.median(pair[False] for pair in pairs):.2f}"
        row.ratio = f"{statistics.median(pair[True] / pair[False] for pair in pairs):.2f}"


def _equal(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> bool:
    return len(one) == len(other) and all(map(np.array_equal, one, other))


def _last_error(log: str) -> str:
    """Returns the last line that says what went wrong, or the last line of all."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b", line)]
    return ([*lines, *errors] or ["it ended without a word"])[-1][:200]


def _joined(remark: str, more: str) -> str:
    return remark if more in remark else "; ".join(part for part in (remark, more) if part)


def _commit(checkout: Path) -> str:
    command = ["git", "-C", str(checkout), "rev-parse", "--short=7", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def read_recipes(path: Path) -> list[Recipe]:
    """Reads the recipes; what their file says under ``shared`` is for its anchors only."""
    return [Recipe(**entry) for entry in yaml.safe_load(path.read_text())["recipes"]]


def recipes_for(checkout: Path, recipes: Sequence[Recipe]) -> Iterator[Recipe]:
    """Yields the recipes of a checkout, by the name of its folder."""
    name = checkout.name.lower()
    for recipe in recipes:
        owner, _, repository = recipe.repository.lower().partition("/")
        if name in (repository, f"{owner}+{repository}"):
            yield recipe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("checkouts", nargs="+", type=Path, metavar="DIR")
    parser.add_argument("--csv", type=Path, default=Path("zero-touch.csv"))
    parser.add_argument("--page", type=Path, help="page whose table gets the rows")
    parser.add_argument("--logs", type=Path, help="folder for what the runs print")
    options = parser.parse_args()
    recipes = read_recipes(HERE / "zero_touch.yaml")
    order = [(recipe.repository, recipe.script) for recipe in recipes]
    console = Console(stderr=True)
    for checkout in options.checkouts:
        for recipe in recipes_for(checkout.resolve(), recipes):
            console.print(f"{recipe.repository}: {recipe.script}")
            row = examine(recipe, checkout.resolve(), options.logs)
            write_rows(options.csv, merged(read_rows(options.csv), row, order))
    rows = read_rows(options.csv)
    if options.page is not None:
        write_page(options.page, rows)
    print_rows(rows)


if __name__ == "__main__":
    main()

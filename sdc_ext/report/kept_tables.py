"""The tables that ``compare`` and ``evaluate`` left in folders, as text for the HTML page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypedDict

from sdc_ext._schemas import as_kind, read_json
from sdc_ext.evaluation.paired import points

Rows: TypeAlias = list[list[str]]

COMPARISON, ACCURACIES = "comparison.json", "accuracies.json"

_ADVICE = "write it again, or leave its folder out"


class _EvaluatedRow(TypedDict):
    """An entry of ``accuracies.json``."""

    set: str
    network: str
    epochs: int
    lr: float
    seed: int
    mean: float
    std: float
    accuracies: list[float]


class _OfArm(TypedDict):
    """What names an entry of ``comparison.json``."""

    arm: str


class _OfLam(TypedDict):
    """What names an entry that an earlier version wrote, which compared values of lam alone."""

    lam: float


class _DivergedRow(TypedDict):
    """An entry of ``comparison.json`` for an arm that was left out, and why."""

    diverged: str


class _ComparedRow(TypedDict):
    """An entry of ``comparison.json``, as for the first arm."""

    mean: float
    std: float
    n: int


class _GainRow(_ComparedRow):
    """An entry of ``comparison.json`` for another arm than the first."""

    difference: float
    t_interval: tuple[float, float] | None
    bootstrap_interval: tuple[float, float]
    wins: int
    losses: int
    sign_test: float


class _TestedRow(_GainRow):
    """The same, with the tests that earlier versions did not have."""

    t_test_holm: float
    equivalence_test: float
    margin: float
    anytime_interval: tuple[float, float] | None
    seeds_left: int | None
    verdict: str


_COMPARED = [
    *("arm", "accuracy ± std over seeds", "seeds", "gain", "95 %, t", "95 %, bootstrap"),
    *("up / down", "p, sign test", "p, Holm", "p, equivalence", "95 %, any look"),
    *("seeds to go", "verdict"),
]


def comparisons(folders: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """Yields the tables of ``sdc-ext compare`` in the folders."""
    for path in (path for folder in folders for path in sorted(folder.rglob(COMPARISON))):
        rows = [_COMPARED, *(_compared(row) for row in _read(path, _kind_of_compared))]
        padded = [[*cells, *[""] * (len(_COMPARED) - len(cells))] for cells in rows]
        yield {"title": f"{path.parent.name}: points gained, paired by seed", "rows": padded}


def _kind_of_compared(row: Mapping[str, Any]) -> list[Any]:
    numbers: type[_ComparedRow | _DivergedRow] = _ComparedRow
    if "diverged" in row:
        numbers = _DivergedRow
    elif "difference" in row:
        numbers = _TestedRow if "verdict" in row else _GainRow
    return [_OfArm if "arm" in row else _OfLam, numbers]


def _compared(row: Mapping[str, Any]) -> list[str]:
    name = row["arm"] if "arm" in row else f"lam {row['lam']:g}"
    if "diverged" in row:
        return [name, f"left out: {row['diverged']}"]
    cells = [name, percent(row), str(row["n"])]
    if "difference" in row:
        cells += [
            f"{100 * row['difference']:+.2f}",
            points(row["t_interval"]),
            points(row["bootstrap_interval"]),
            f"{row['wins']} / {row['losses']}",
            f"{row['sign_test']:.3f}",
        ]
    if "difference" in row and "verdict" in row:
        left = row["seeds_left"]
        cells += [
            f"{row['t_test_holm']:.3f}",
            f"{row.get('equivalence_test_holm', row['equivalence_test']):.3f}"
            f" (±{100 * row['margin']:g})",
            points(row["anytime_interval"]),
            "-" if left is None else str(left),
            row["verdict"],
        ]
    return cells


def evaluations(runs: Sequence[Path], folders: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """Yields the tables of ``sdc-ext evaluate`` in the folders, and in those of runs."""
    inside = (path for run in runs for path in sorted(run.glob(f"*/{ACCURACIES}")))
    given = (folder / ACCURACIES for folder in folders)
    for path in dict.fromkeys([*inside, *(path for path in given if path.is_file())]):
        rows = [["set", "network", "epochs", "learning rate", "seed", "accuracy", "n"]]
        for r in read_accuracies(path):
            how = [r["set"], r["network"], str(r["epochs"]), f"{r['lr']:g}", str(r["seed"])]
            rows.append([*how, percent(r), str(len(r["accuracies"]))])
        yield {"title": f"{path.parent}: across networks", "rows": rows}


def read_accuracies(path: Path, advice: str = _ADVICE) -> list[dict[str, Any]]:
    """Returns the entries of an ``accuracies.json``, one per set and network.

    Args:
        path: The file.
        advice: What the user can do if it is damaged.

    Raises:
        InputError: If the file is damaged; the message names the entry and the field.
    """
    return _read(path, lambda _: [_EvaluatedRow], advice)


def percent(row: Mapping[str, Any]) -> str:
    """Returns the mean accuracy of an entry in percent, and its deviation if it has several."""
    several = len(row.get("accuracies", (0, 1))) > 1
    spread = f" ± {100 * row['std']:.2f}" if several else ""
    return f"{100 * row['mean']:.2f}{spread}" + (" (average)" if row.get("of") == "ema" else "")


def _read(
    path: Path, kinds_of: Callable[[dict[str, Any]], Sequence[Any]], advice: str = _ADVICE
) -> list[dict[str, Any]]:
    """Reads the entries of a file, each of which is of the kinds that its keys suggest."""
    rows = read_json(path, list[dict[str, Any]], advice)
    for number, row in enumerate(rows):
        for kind in kinds_of(row):
            as_kind(row, kind, f"{path}, entry {number},", advice)
    return rows

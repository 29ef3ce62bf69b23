"""Gathers comparisons of shares, and draws the gain over the share in all settings.

    python benchmarks/gain_over_share.py [FOLDER ...] [--csv docs/data/gain-over-share.csv]

Each FOLDER is what `sdc-ext compare --share 0 ...` or a plan of such comparisons has written. Its
runs are added to the table, one row per run; rows that are there already stay. Then the table of
gains, paired by seed, is printed, and the picture is drawn beside the pages of the documentation.
"""

from __future__ import annotations

import csv
from argparse import ArgumentParser
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from sdc_ext import load_set
from sdc_ext._figures import save_figure
from sdc_ext.evaluation.paired import PairedDifference, holm, points
from sdc_ext.evaluation.tracking import Action, Drift, warm_up
from sdc_ext.sets.history import read_history

COLUMNS = ("method", "dataset", "ipc", "iterations", "share", "seed", "accuracy")
COLUMNS += ("lam", "realised", "gradn")
# Runs from here on confirm what earlier ones suggested, and are not pooled with them.
FRESH = 100

Row = Mapping[str, str]
Setting = tuple[str, ...]


def rows_of(folder: Path) -> Iterator[Row]:
    """One row per finished run of a comparison of shares."""
    for meta in sorted(folder.rglob("share-*/seed-*/meta.json")):
        run = meta.parent
        info, history = load_set(run).info, read_history(run)
        action = Action.of(history)
        drift = Drift.of(history["difficulty"], warm_up(info, len(history["difficulty"])))
        values = (
            *(info.method, info.dataset, info.ipc, len(history["iteration"])),
            *(run.parent.name.removeprefix("share-"), run.name.removeprefix("seed-")),
            *(info.accuracies[-1]["mean"], action.lam, action.share, drift.last),
        )
        yield dict(zip(COLUMNS, map(_text, values), strict=True))


def _text(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def gains(rows: Sequence[Row]) -> dict[Setting, dict[float, PairedDifference]]:
    """The gains over share 0 by setting and share; fresh seeds are a setting of their own."""
    found: dict[Setting, dict[float, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        fresh = "fresh seeds" if int(row["seed"]) >= FRESH else ""
        setting = row["method"], row["dataset"], row["ipc"], row["iterations"], fresh
        found[setting][float(row["share"])][row["seed"]] = float(row["accuracy"])
    return {setting: dict(_paired(of_share)) for setting, of_share in found.items()}


def _paired(
    of_share: Mapping[float, Mapping[str, float]],
) -> Iterator[tuple[float, PairedDifference]]:
    for share in sorted(of_share):
        seeds = sorted(of_share[share].keys() & of_share.get(0.0, {}).keys(), key=int)
        if share and len(seeds) > 1:
            changed, base = ([of_share[s][seed] for seed in seeds] for s in (share, 0.0))
            yield share, PairedDifference.of(changed, base)


def table(rows: Sequence[Row]) -> Table:
    """The gains, with p-values after Holm over the shares of a setting."""
    of_runs = ("setting", "share", "lam", "GraDN", "seeds")
    shown = Table(*of_runs, "gain", "95 %", "up", "p, Holm", "p, ±0.5")
    for setting, found in gains(rows).items():
        gained = holm([d.t_test for d in found.values()])
        alike = holm([d.equivalence_test(0.005) for d in found.values()])
        for (share, d), p, same in zip(found.items(), gained, alike, strict=True):
            of_arm = [r for r in rows if _is_of(r, setting, share)]
            means = (fmean(float(r[name]) for r in of_arm) for name in ("lam", "gradn"))
            shown.add_row(
                " ".join(setting),
                f"{share:g}",
                *(f"{mean:.4g}" for mean in means),
                str(d.n),
                f"{100 * d.mean:+.2f}",
                points(d.t_interval),
                str(d.wins),
                f"{p:.3g}",
                f"{same:.3f}",
            )
        shown.add_section()
    return shown


def _is_of(row: Row, setting: Setting, share: float) -> bool:
    fresh = "fresh seeds" if int(row["seed"]) >= FRESH else ""
    names = ("method", "dataset", "ipc", "iterations")
    return (*(row[n] for n in names), fresh) == setting and float(row["share"]) == share


def draw(rows: Sequence[Row], path: Path) -> None:
    """One panel per method; hollow marks are of fresh seeds."""
    found = gains(rows)
    methods = list(dict.fromkeys(setting[0] for setting in found))
    figure = Figure(figsize=(2.6 * len(methods), 3.2), layout="constrained")
    panels = figure.subplots(1, len(methods), sharey=True, squeeze=False)[0]
    names: dict[str, int] = {}
    for axis, method in zip(panels, methods, strict=True):
        for setting, of_share in found.items():
            if setting[0] == method:
                label = f"{setting[1]}, ipc {setting[2]}"
                _draw(axis, of_share, label, names.setdefault(label, len(names)), bool(setting[4]))
        axis.axhline(0, color="0.3", linewidth=0.8)
        axis.set_xscale("log")
        axis.set_title(method, fontsize=10)
        axis.set_xlabel("share")
        axis.set_ylim(-4, 2)
        axis.grid(alpha=0.3)
    panels[0].set_ylabel("points gained over share 0, 95 %")
    handles = {
        label: handle
        for axis in panels
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles, loc="outside upper center", ncols=4, fontsize=8)
    save_figure(figure, path)


def _draw(
    axis: Axes, found: Mapping[float, PairedDifference], label: str, color: int, fresh: bool
) -> None:
    places = np.asarray(list(found)) * 1.06 ** (color + fresh)
    means = np.asarray([100 * d.mean for d in found.values()])
    low, high = 100 * np.asarray([d.t_interval for d in found.values()]).T
    axis.errorbar(
        places,
        means,
        [means - low, high - means],
        color=f"C{color}",
        marker="o",
        markersize=5,
        markerfacecolor="white" if fresh else f"C{color}",
        linestyle="none" if fresh else "-",
        linewidth=1.2,
        label=None if fresh else label,
    )


def main() -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="*", metavar="FOLDER")
    parser.add_argument("--csv", type=Path, default=Path("docs/data/gain-over-share.csv"))
    options = parser.parse_args()
    rows: list[Row] = []
    if options.csv.is_file():
        with options.csv.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    known = {tuple(row[name] for name in COLUMNS[:6]) for row in rows}
    new = (row for folder in options.folders for row in rows_of(folder))
    rows += [row for row in new if tuple(row[name] for name in COLUMNS[:6]) not in known]
    with options.csv.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    Console(width=140).print(table(rows))
    draw(rows, options.csv.parent.parent / "gain-over-share.png")


if __name__ == "__main__":
    main()
